"""What reaches a user: one line, of bounded length, in which nothing is obeyed by the terminal."""

import io
import logging
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.logging import RichHandler
from rich.table import Table

from ganc_nni.cli import main
from ganc_nni.core.errors import LONGEST_LINE, InputError, TrainingError, one_line, quoted, visible
from ganc_nni.core.logs import VisibleConsole, VisibleFormatter, progress_bar

ESCAPES = {
    "colour": ("\x1b[31m", "\\x1b[31m"),
    "title": ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
    "clear": ("\x1bc", "\\x1bc"),
    "carriage return": ("a\rb", "a\\rb"),
    "backspace": ("a\x08b", "a\\x08b"),
    "nul": ("\0", "\\x00"),
    "control sequence of C1": ("\x9b31m", "\\x9b31m"),
    "delete": ("\x7f", "\\x7f"),
    "right to left": ("\u202egnp.exe", "\\u202egnp.exe"),
    "isolate": ("\u2066x\u2069", "\\u2066x\\u2069"),
    "zero width": ("a\u200bb", "a\\u200bb"),
    "line separator": ("a\u2028b", "a\\u2028b"),
    "byte that is no UTF-8": ("\udcff", "\\udcff"),
}
HOSTILE = "".join(text for text, _ in ESCAPES.values()) + "[red]x[/red] :smile:"


@pytest.mark.parametrize("kind", ESCAPES)
def test_controls_are_shown_and_not_obeyed(kind):
    text, shown = ESCAPES[kind]
    assert visible(text) == shown
    for error in (InputError, TrainingError):
        assert str(error(f"{text}: wrong")) == f"{shown}: wrong"


@given(st.text())
def test_a_line_is_one_line_and_can_be_printed(text):
    line = one_line(text)
    assert "\n" not in line
    assert visible(line) == line
    assert str(InputError(text)) == line


@pytest.mark.parametrize("text", ["ä 日本 €", "path/with spaces", "[red]", "a  b"])
def test_what_a_terminal_only_shows_stays(text):
    assert one_line(text) == visible(text) == text


def test_lines_become_one_and_long_ones_lose_their_middle():
    assert one_line("a\n\tb\r\nc\n") == "a  b c "
    line = one_line("begin" + "x" * 52_000_000 + "cure")
    assert line.startswith("beginx")
    assert line.endswith("xcure")
    assert len(line) <= LONGEST_LINE
    for long in (2000, 1_000_000):
        assert len(one_line("begin" + "\x1b" * long + "cure")) <= LONGEST_LINE
        assert one_line("begin" + "\x1b" * long + "cure").endswith("cure")


@pytest.mark.parametrize(
    "value",
    ["x" * 10**7, list(range(10**6)), {str(i): i for i in range(10**5)}, 16**5000, [[[[[[1]]]]]] * 9, b"x" * 10**6],
    ids=lambda value: type(value).__name__,
)
def test_values_are_quoted_in_short(value):
    assert len(quoted(value)) < 600


def test_small_values_are_quoted_as_they_are():
    for value in (16, -1.5, "cuda", True, None, [1, 2], {"_type": "choice", "_value": [4]}):
        assert quoted(value) == repr(value)


def shown_by(show, width=10_000):
    console = VisibleConsole()
    console.file, console.width = io.StringIO(), width
    show(console)
    return console.file.getvalue()


def table(console):
    made = Table("name", title=HOSTILE)
    made.add_row(HOSTILE)
    console.print(made)


def log(console):
    handler = RichHandler(console=console, show_path=False)
    handler.setFormatter(VisibleFormatter())
    handler.handle(logging.LogRecord("ganc_nni", logging.WARNING, "", 0, "%s: strange", (HOSTILE,), None))


@pytest.mark.parametrize("show", [lambda console: console.print(HOSTILE), table, log])
def test_names_are_shown_as_they_are_in_text_tables_and_logs(show):
    shown = shown_by(show)
    assert visible(HOSTILE) in shown
    assert visible(shown) == shown
    assert "[red]x[/red] :smile:" in shown


def test_logs_keep_their_lines():
    record = logging.LogRecord("ganc_nni", logging.INFO, "", 0, "one\ntwo\x1b[31m", (), None)
    assert VisibleFormatter().format(record) == "one\ntwo\\x1b[31m"


def test_the_name_of_a_bar_has_no_markup():
    bar = progress_bar("pictures")
    with bar:
        task = bar.add_task("[/nothing]")
        assert bar.columns[0].render(bar.tasks[task]).plain == "[/nothing]"


def ganc(*arguments, **environment):
    code = "from ganc_nni.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [f"profile{HOSTILE[1:]}"],
        ["profile", HOSTILE],
        ["profile", f"--{HOSTILE}", "1"],
        ["score", "--fake", "x", "--real", "y", "--batch-size", HOSTILE],
        ["score", "--fake", "x", "--real", "y", "--batch-size", "0"],
        ["translate", "--generator", "g", "--input", "x", "--output", "y", "--upsampling", HOSTILE],
    ],
    ids=["command", "argument", "option", "number", "limit", "choice"],
)
def test_usage_errors_show_what_was_given_and_not_pydantic_s_words(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ganc", *(each.replace("\0", "") for each in arguments)])
    with pytest.raises(SystemExit, match="2"):
        main()
    shown = capsys.readouterr().err
    assert "Usage: " in shown
    assert visible(shown) == shown
    assert not re.search(r"Input should|Value error|unable to parse", shown)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_any_encoding_of_the_output_shows_any_name(tmp_path, encoding):
    name = "löwe \udcff\x1b[31m €.recipe.yml"
    done = ganc("run", str(tmp_path / name), PYTHONIOENCODING=encoding)
    assert done.returncode == 2
    line = done.stderr.decode(encoding)
    assert line.startswith("error: ")
    assert "\\udcff\\x1b[31m" in line
    assert "no such file" in line
    assert line.count("\n") == 1
    profile = ganc("profile", "--help", PYTHONIOENCODING=encoding)
    assert profile.returncode == 0, profile.stderr
