"""docs/troubleshooting.md names every message that a user can get, and none that there is no more."""

import ast
import re
from pathlib import Path

import pytest

import ganc_nni

PACKAGE = Path(ganc_nni.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
ERRORS = {"InputError", "TrainingError", "RecipeError"}
OTHERS = "## What others say"

PASSED_ON = {
    "data/inspection.py": "the fault of one file, or several; see `… files cannot be used: …`",
    "stages/checks.py": "the same, where the first of several processes has found it",
    "demo/prepare.py": "the message about a label map, with the name that the page shows",
    "recipe/load.py": "pydantic's errors, put into words by all_in_words; see `…: got …; expected …`",
    "search/strategies/registry.py": "pydantic's errors, as in recipe/load.py",
    "nnictl/bridge.py": "error.txt, in which a trial has written its own message",
    "nnictl/evaluator_client.py": "the evaluator's answer, and what is journalled of a sub-generator",
    "losses/vgg.py": "the message about a weights file, and which file is meant",
    "losses/discriminator_files.py": "what a file is instead of a discriminator; see `is a generator …`",
    "interop/files.py": "what a file is instead of a generator; see `looks like …`",
    "generators/space.py": "which labels there are; see `expected exactly the labels …`",
    "training/loop.py": "the message of the training, and where its last checkpoint is",
}
"""Modules that raise a message which was made elsewhere, so that nothing of it stands beside the raise."""


def template(node):
    """The constant parts of a text, with … for the others."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub("…+", "…", "".join(template(part) for part in node.values))
    return "…"


def named(call):
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def sources():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def messages():
    """Every message of an error for users, as (module, template)."""
    for module, nodes in sources():
        kinds = ERRORS | ({"ValueError"} if module.startswith("recipe/") else set())
        for node in nodes:
            if isinstance(node, ast.Call) and named(node) in kinds:
                yield module, template(node.args[0])


def says_something(text):
    return any(letter.isalpha() for letter in text)


MESSAGES = sorted(set(messages()))
TEXTS = sorted({text for _, text in MESSAGES if says_something(text)})
EVERYTHING = {
    template(node) for _, nodes in sources() for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)
}
PAGE_TEXT = PAGE.read_text(encoding="utf-8")
TABLES = re.findall(r"^\| (`+)(.+?)\1 \| (.+?) \| (.+?) \|$", PAGE_TEXT.partition(OTHERS)[0], re.MULTILINE)
ROWS = [message for _, message, _, _ in TABLES]


def described(row):
    """The messages that a row is about: the same, or all that begin like it."""
    return [text for text in TEXTS if text == row] or [text for text in TEXTS if text.startswith(row)]


COVERED = {text for row in ROWS for text in described(row)}


@pytest.mark.parametrize("text", TEXTS)
def test_every_message_has_its_cause_and_cure(text):
    assert text in COVERED, (
        "docs/troubleshooting.md says nothing of a message; add a row to the table of its area (the message may be cut "
        f"where its own cure begins):\n| `{text}` | why it comes | what to do |"
    )


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_about_one_message(row):
    found = described(row)
    assert len(found) < 2, f"docs/troubleshooting.md: `{row}` begins several messages, give each its row: {found}"
    gone = "docs/troubleshooting.md: no such message any more; correct or remove the row"
    assert found or any(text.startswith(row) for text in EVERYTHING), f"{gone}: `{row}`"


def test_no_message_has_two_rows():
    assert sorted(ROWS) == sorted(set(ROWS))


def test_rows_are_whole():
    """A row that is not read as one would not be checked."""
    lines = [line for line in PAGE_TEXT.partition(OTHERS)[0].splitlines() if line.startswith("| `")]
    assert len(lines) == len(TABLES)


def test_messages_without_words_of_their_own_are_known():
    passed_on = {module for module, text in MESSAGES if not says_something(text)}
    assert passed_on == set(PASSED_ON), "give the error words of its own, or say in PASSED_ON where its words are made"
