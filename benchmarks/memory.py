"""Peak memory and seconds of every stage of a recipe; each stage runs as its own ``ganc`` process.

The run lives in a temporary folder, so that ``runs/`` is not touched. Call it where you would call ``ganc``.
"""

from __future__ import annotations

# Nothing large may be imported here: the peak of a new process starts at the size of the one that made it.
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

STAGES = ("train-teacher", "train-supernet", "search", "finetune", "export")


def main() -> None:
    """Run the stages and print one line each."""
    options = _options()
    recipe = options.recipe.resolve()
    table = Table(title=f"{recipe.name}, each stage in a process of its own", title_justify="left")
    table.add_column("")
    table.add_column("peak memory (MiB)", justify="right")
    table.add_column("seconds", justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _link_space(recipe, folder)
        table.add_row("(importing alone)", *_measure([sys.executable, "-c", "import ganc_nni.stages.pipeline"], folder))
        for stage in STAGES:
            table.add_row(stage, *_measure([sys.executable, "-m", "ganc_nni", stage, str(recipe)], folder))
        if options.keep is not None:
            shutil.copytree(folder / "runs", options.keep)
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "experiments" / "quickstart.recipe.yml"
    parser.add_argument("recipe", type=Path, nargs="?", default=default, help="recipe file")
    parser.add_argument("--keep", type=Path, help="new folder that receives what the run leaves")
    return parser.parse_args()


def _link_space(recipe: Path, folder: Path) -> None:
    """Let the recipe's search space, whose path is relative to the current folder, be found in ``folder`` too."""
    space = Path(yaml.safe_load(recipe.read_text(encoding="utf-8"))["student"]["space"])
    if not space.is_absolute():
        (folder / space).parent.mkdir(parents=True, exist_ok=True)
        (folder / space).symlink_to(space.resolve(strict=True))


def _measure(command: list[str], folder: Path) -> tuple[str, str]:
    """Peak resident memory of the largest of its processes in MiB, and elapsed seconds."""
    environment = {"GANC_DATA": str(Path.cwd()), **os.environ}  # data, too, stay relative to the current folder
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)} has failed with code {process.returncode}:\n{log.read()}")
    return f"{usage.ru_maxrss / 1024:.0f}", f"{time.perf_counter() - start:.1f}"


if __name__ == "__main__":
    main()
