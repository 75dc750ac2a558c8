"""The command line: reads arguments and recipes, calls the rest, turns errors into one line."""

from ganc_nni.cli import benchmark, demo, stages, tools  # noqa: F401 (they add their commands to the application)
from ganc_nni.cli.app import app, main

__all__ = ["app", "main"]
