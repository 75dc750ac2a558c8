"""What all commands share: the application, its options, and how an error becomes one line."""

from __future__ import annotations

import functools
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.logging import RichHandler
from typer._click.exceptions import ClickException  # typer has no other name for all of its errors
from typer.core import TyperGroup
from typing_extensions import override

from ganc_nni import __version__
from ganc_nni.core import logs
from ganc_nni.core.errors import in_one_line, visible
from ganc_nni.core.paths import expanded

_Command = TypeVar("_Command", bound=Callable[..., Any])


_PYDANTIC = re.compile(r"Value error, |, unable to parse .*")
"""What typer has pydantic say beyond what a user can use."""


@contextmanager
def _own_words() -> Iterator[None]:
    """Let errors of typer show all that was given, and speak of options instead of pydantic's input."""
    try:
        yield
    except ClickException as error:
        error.message = visible(_PYDANTIC.sub("", error.message).replace("Input should", "it should"))
        raise


class _Group(TyperGroup):
    @override
    def make_context(self, *args: Any, **options: Any) -> Any:
        with _own_words():
            return super().make_context(*args, **options)

    @override
    def invoke(self, ctx: Any) -> Any:
        with _own_words():
            return super().invoke(ctx)


class _App(typer.Typer):
    """Commands whose paths, all of them, may begin with ``~`` and hold ``$NAME``."""

    def command(self, *args: Any, **options: Any) -> Callable[[_Command], _Command]:
        """As Typer's."""
        register = super().command(*args, **options)

        def decorate(function: _Command) -> _Command:
            @functools.wraps(function)
            def with_paths(**given: Any) -> Any:
                return function(
                    **{name: expanded(value) if isinstance(value, Path) else value for name, value in given.items()}
                )

            register(with_paths)
            return function

        return decorate


app = _App(
    name="ganc",
    cls=_Group,
    help="Compress conditional GAN generators: distil a once-for-all student, search it, fine-tune, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
CONSOLE = logs.VisibleConsole()

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")]


def print_json(figures: Mapping[str, Any]) -> None:
    """One line on standard output."""
    sys.stdout.write(json.dumps(figures) + "\n")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"ganc {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also log what happens inside.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    logs.set_up(RichHandler(console=logs.STDERR, show_path=False), logging.DEBUG if verbose else logging.INFO)


def main() -> None:
    """Entry point of ``ganc``: an expected failure is one line on standard error, see :func:`in_one_line`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what its encoding does not
            stream.reconfigure(errors="backslashreplace")
    with in_one_line():
        app()
