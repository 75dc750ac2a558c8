"""The command that measures how fast generators are on this device."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from rich.table import Table

from ganc_nni.cli.app import CONSOLE, AsJson, app, print_json
from ganc_nni.cli.tools import DeviceOption, UpsamplingOption
from ganc_nni.core.errors import InputError
from ganc_nni.core.memory import enough_memory

if TYPE_CHECKING:
    from ganc_nni.interop import GeneratorFile
    from ganc_nni.tools.benchmark.compare import Settings, Timing

# as ganc_nni.tools.benchmark has it, which takes seconds to import; mypy compares them
Way = Literal["eager", "channels_last", "compile", "onnx"]


@app.command()
def benchmark(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="[RECIPE]", help="Recipe file of a finished run; with --table of any."),
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="File of a teacher, in place of a RECIPE.")] = None,
    compressed: Annotated[Path | None, typer.Option(help="File of a compressed generator, next to --teacher.")] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Height and width, pixels. Left out: the recipe's, of files 256 256."),
    ] = None,
    ways: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="How to run them: some of eager, channels_last, compile (torch.compile) and onnx (ONNX Runtime on the "
            "CPU), by commas. Speedups are over the teacher in the first.",
        ),
    ] = "eager,channels_last,compile,onnx",
    warmup: Annotated[int, typer.Option(min=1, help="Passes of each that do not count.")] = 3,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Measure something else, and write it to this file: milliseconds of every part of the recipe's "
            "student at every width, for search.latency_table. Call again after an interruption."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --table: what to call the device; left out: its maker's name.")
    ] = None,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the CPU. Left out: all cores, with --table 1; then CPU time is measured, in which other "
            "programs count less.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Passes of each (30); with --table, visits to every combination of widths (6)."),
    ] = None,
    upsampling: UpsamplingOption = None,
    as_json: AsJson = False,
) -> None:
    """Time teacher and compressed generator on this device, in turns: RECIPE, or --teacher FILE --compressed FILE.

    With --table FILE measure the student of a recipe part by part instead; that needs no images and no weights.
    """
    if table is not None:
        if recipe is None:
            raise InputError("--table: expected a RECIPE, whose student is measured")
        _write_table(recipe, table, device, name, threads or 1, batch, repeats or 6, as_json)
        return
    chosen = _ways(ways)
    files, found = _files(recipe, teacher, compressed, upsampling)
    from ganc_nni.metrics.evaluator import pick_device
    from ganc_nni.tools.benchmark.compare import Settings

    threads = threads or os.cpu_count() or 1
    settings = Settings(size or found, batch, threads, warmup, repeats or 30, pick_device(device).type)
    _compare(files, chosen, settings, as_json)


def _ways(names: str) -> list[Way]:
    known: tuple[Way, ...] = get_args(Way)
    wanted = [name.strip() for name in names.split(",")]
    chosen = [way for name in wanted for way in known if way == name]
    if len(chosen) < len(wanted) or len(set(chosen)) < len(chosen):
        raise InputError(f"--ways {names}: expected some of {', '.join(known)}, once each, joined by commas")
    return chosen


def _files(
    recipe: Path | None, teacher: Path | None, compressed: Path | None, upsampling: str | None
) -> tuple[dict[str, GeneratorFile], tuple[int, int]]:
    """What to measure by name, and the height and width that it is meant for."""
    from ganc_nni.interop import read_generator
    from ganc_nni.recipe import load_recipe
    from ganc_nni.run import Run

    if recipe is None:
        if teacher is None or compressed is None:
            raise InputError("expected a RECIPE, or --teacher FILE and --compressed FILE")
        files = {"teacher": teacher, "compressed": compressed}
        return {name: read_generator(path, upsampling=upsampling) for name, path in files.items()}, (256, 256)
    if teacher is not None or compressed is not None:
        raise InputError("got a RECIPE and a file; expected either, because the recipe's run has files of its own")
    run = Run(load_recipe(recipe))
    exported = run.folder / "export" / "compressed.safetensors"
    if not exported.is_file():
        raise InputError(f"{exported}: no such file; finish the run first: ganc run {recipe}")
    told = run.teacher_config.told()
    files = {"teacher": run.teacher_weights, "compressed": exported}
    return {name: read_generator(path, **told) for name, path in files.items()}, run.recipe.data.image_size


def _compare(files: dict[str, GeneratorFile], ways: list[Way], settings: Settings, as_json: bool) -> None:
    import torch

    from ganc_nni.core.logs import progress_bar
    from ganc_nni.core.text import times
    from ganc_nni.cost.blocks import device_name
    from ganc_nni.tools.benchmark.compare import Subject, compare

    subjects = []
    for name, file in files.items():
        file.config.check_size(settings.size, "--size")
        subjects.append(Subject(name, file.config, file.network()))
    with progress_bar("passes") as bar:
        task = bar.add_task("warming up and timing", total=None)
        batch = f"--batch (now {settings.batch}) or " if settings.batch > 1 else ""
        with enough_memory("ganc benchmark", f"lower {batch}--size (now {settings.size[0]} {settings.size[1]})"):
            timings = compare(
                subjects, ways, settings, lambda done, total: bar.update(task, completed=done, total=total)
            )
    macs = {name: int(file.cost(settings.size).macs_published) for name, file in files.items()}
    maker = device_name(torch.device(settings.device))
    if as_json:
        figures = {
            "device_name": maker,
            **asdict(settings),
            "macs_published": macs,
            "macs_ratio": macs["teacher"] / macs["compressed"],
        }
        print_json({**figures, "timings": [asdict(timing) for timing in timings]})
        return
    height, width = settings.size
    threads = f"{settings.threads} thread{'s' if settings.threads > 1 else ''}"
    _print_timings(
        timings,
        f"{height}x{width}, batch {settings.batch}, {threads}, {maker}\n"
        f"{times(macs['teacher'], macs['compressed'], 'fewer', 'more')} MACs (published: "
        f"{macs['teacher'] / 1e9:.3g} G and {macs['compressed'] / 1e9:.3g} G)\nspeedup: over the teacher, {ways[0]}",
    )


def _print_timings(timings: list[Timing], title: str) -> None:
    shown = Table(title=title, title_justify="left")
    shown.add_column("", no_wrap=True)
    for column in ("median (ms)", "p95 (ms)", "images a second", "peak (MiB)", "speedup"):
        shown.add_column(column, justify="right")
    for timing in timings:
        values = (timing.median_ms, timing.p95_ms, timing.pictures_per_second, timing.peak_mib, timing.speedup)
        cells = ["-" if value is None else f"{value:.4g}" for value in values]
        shown.add_row(f"{timing.network}, {timing.way}", *cells)
    CONSOLE.print(shown)
    for timing in timings:
        if timing.failure is not None:
            CONSOLE.print(f"{timing.network} by {timing.way}: {timing.failure}", soft_wrap=True)


def _write_table(
    recipe: Path, table: Path, device: str, name: str | None, threads: int, batch: int, repeats: int, as_json: bool
) -> None:
    from ganc_nni.core.logs import progress_bar
    from ganc_nni.cost.blocks import device_name
    from ganc_nni.cost.measure import TableMeasurement
    from ganc_nni.metrics.evaluator import pick_device
    from ganc_nni.recipe import load_recipe
    from ganc_nni.run import Run

    run, chosen = Run(load_recipe(recipe)), pick_device(device)
    size = run.recipe.data.image_size
    run.student_config.check_size(size, "data.image_size")
    measurement = TableMeasurement(
        run.student_config, run.space, size, chosen, name or device_name(chosen), threads, batch, repeats
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
