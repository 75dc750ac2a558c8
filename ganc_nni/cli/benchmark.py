"""The command that measures how fast a student is on this device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ganc_nni.cli.app import CONSOLE, AsJson, app, print_json
from ganc_nni.cli.stages import RecipeFile
from ganc_nni.cli.tools import DeviceOption
from ganc_nni.errors import InputError


@app.command()
def benchmark(
    recipe: RecipeFile,
    table: Annotated[
        Path | None,
        typer.Option(
            help="File to write: milliseconds of every part of the recipe's student at every width, for "
            "search.latency_table. Call again after an interruption."
        ),
    ] = None,
    device: DeviceOption = "auto",
    name: Annotated[str | None, typer.Option(help="What to call the device; left out: its maker's name.")] = None,
    threads: Annotated[
        int,
        typer.Option(
            min=1, help="Threads of the CPU. With 1, CPU time is measured, in which other programs count less."
        ),
    ] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once; times are for one.")] = 1,
    repeats: Annotated[
        int, typer.Option(min=1, help="Visits to every combination of widths; their median counts.")
    ] = 6,
    as_json: AsJson = False,
) -> None:
    """Measure how long the student of a recipe takes on this device, part by part: --table FILE.

    Needs no pictures and no weights. The sum of the parts is compared with 20 whole sub-generators.
    """
    if table is None:
        raise InputError("expected what to measure: --table FILE")
    from ganc_nni.evaluate import pick_device
    from ganc_nni.logs import progress_bar
    from ganc_nni.measuring import TableMeasurement
    from ganc_nni.recipe import load_recipe
    from ganc_nni.run import Run
    from ganc_nni.timing import device_name

    run, chosen = Run(load_recipe(recipe)), pick_device(device)
    size = run.recipe.data.image_size
    run.student_blueprint.check_size(size, "data.image_size")
    measurement = TableMeasurement(
        run.student_blueprint, run.space, size, chosen, name or device_name(chosen), threads, batch, repeats
    )
    with progress_bar("visits") as bar:
        task = bar.add_task("sub-generators")
        result = measurement.run(table, lambda done, total: bar.update(task, completed=done, total=total))
    least, largest = result.smallest()[0], result.figure.largest(result.space) / 1e6
    figures = {
        "device": result.device,
        "clock": result.clock,
        "threads": threads,
        "batch": batch,
        "smallest_ms": least,
        "largest_ms": largest,
        "median_error_percent": result.median_error_percent,
        "largest_error_percent": result.largest_error_percent,
    }
    if as_json:
        print_json({"table": str(table), **figures})
        return
    shown = Table(title=f"{table}: {size[0]}x{size[1]}, eager, fp32", show_header=False)
    shown.add_column()
    shown.add_column(overflow="fold")
    rows = {
        "device": f"{result.device}, {threads} thread{'s' if threads > 1 else ''}, batch {batch}",
        "clock": result.clock,
        "sub-generators take (ms)": f"{least:.3f} to {largest:.3f}",
        "error of 20 predictions (%)": f"{result.median_error_percent:.1f} median, "
        f"{result.largest_error_percent:.1f} largest",
    }
    for title, cell in rows.items():
        shown.add_row(title, cell)
    CONSOLE.print(shown)
