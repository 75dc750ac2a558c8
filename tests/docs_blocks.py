"""What the documents hold: blocks that a reader copies, and the commands in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOOLS = ("ganc", "nnictl", "make", "python", "torchrun")


class Block(NamedTuple):
    """A block of a document, as it would be copied."""

    document: str
    language: str
    text: str


def blocks():
    for path in DOCUMENTS:
        for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
            if token.type in ("fence", "code_block"):
                yield Block(path.relative_to(ROOT).as_posix(), token.info, token.content)


def spans():
    """Code within sentences and tables, as (document, text)."""
    for path in DOCUMENTS:
        for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
            for child in token.children or ():
                if child.type == "code_inline":
                    yield path.relative_to(ROOT).as_posix(), child.content


def lines(text):
    """Lines as the shell sees them: continued ones joined, here-documents with what is in them."""
    found, end = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        if end:
            found[-1] += f"\n{line}"
            end = "" if line == end else end
        elif line.strip():
            found.append(line.strip())
            opening = re.search(r"<<'?(\w+)", line)
            end = opening[1] if opening else ""
    return found


def words(line):
    """The words of a line, without its comment; signs of the shell are words of their own."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def simple_commands(line):
    """The simple commands of a line, each a list of words without the variables before it."""
    commands = [[]]
    for word in words(line):
        if re.fullmatch(r"[;&|()]+", word) or word in ("do", "done"):
            commands.append([])
        elif not (not commands[-1] and re.match(r"\w+=", word)):
            commands[-1].append(word.removeprefix(".venv/bin/") if not commands[-1] else word)
    return [command for command in commands if command]


def is_shell(block):
    """Whether a block holds commands."""
    return block.language in ("", "sh", "bash") and any(
        command[0] in TOOLS for line in lines(block.text) for command in simple_commands_or_none(line)
    )


def simple_commands_or_none(line):
    try:
        return simple_commands(line)
    except ValueError:  # a quote that stays open: not of a shell
        return []
