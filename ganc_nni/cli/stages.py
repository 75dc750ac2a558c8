"""Commands that run a recipe's stages and report on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ganc_nni.cli.app import CONSOLE, AsJson, app, print_json
from ganc_nni.core.errors import InputError

if TYPE_CHECKING:
    from ganc_nni.report.collect import Summary

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="Recipe file, for example experiments/quickstart.recipe.yml.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, for example runs/quickstart.")]


def _run_until(recipe_file: Path, stage: str, resume: bool = False) -> None:
    """Run all stages up to ``stage`` that are not done yet; with ``resume`` only if there are evaluations to reuse."""
    from ganc_nni.recipe import load_recipe

    recipe = load_recipe(recipe_file)
    # torch and NNI take seconds to import; --help, wrong arguments and wrong recipes should not wait for them.
    from ganc_nni.core.distributed import together
    from ganc_nni.report.build import PAGE, make_page
    from ganc_nni.run import Run
    from ganc_nni.stages.checks import check
    from ganc_nni.stages.pipeline import Pipeline

    run = Run(recipe)
    pipeline = Pipeline(run)
    if resume and not pipeline.resumable():
        raise InputError(
            f"--resume: {run.folder / 'search'} has no evaluations of this recipe's supernet; leave --resume out to "
            "begin the search"
        )
    with together(run.device):
        check(run)
        finished = stage == "export" and pipeline.done(stage)
        pipeline.run_until(stage)
    if stage == "export" and not (finished and (run.folder / PAGE).is_file()):
        make_page(run.folder)


@app.command(name="run")
def run_all(recipe: RecipeFile) -> None:
    """Run all stages that are not done yet, in this process; call again to resume."""
    from ganc_nni.recipe import load_recipe

    _run_until(recipe, "export")
    from ganc_nni.report.build import PAGE
    from ganc_nni.report.collect import read_comparison

    folder = load_recipe(recipe).run_folder
    summary = read_comparison(folder)
    assert summary is not None
    _print_table(folder, summary)
    CONSOLE.print(f"report:       {folder / PAGE}", soft_wrap=True)


@app.command()
def train_teacher(recipe: RecipeFile) -> None:
    """Train the teacher: CycleGAN on unpaired, pix2pix on paired images."""
    _run_until(recipe, "teacher")


@app.command()
def train_segmenter(recipe: RecipeFile, as_json: AsJson = False) -> None:
    """Train a segmentation network on the recipe's own images and label maps, for metric miou and map.

    Reports its scores on real test images: the ceiling of what generated ones can reach. Call again to resume.
    """
    from ganc_nni.recipe import load_recipe

    read = load_recipe(recipe)
    from ganc_nni.run import Run
    from ganc_nni.stages.checks import check_files, check_members
    from ganc_nni.stages.pipeline import Pipeline

    run = Run(read)
    check_members(run.recipe)
    pipeline = Pipeline(run)
    if pipeline.stages("segmenter"):  # refuses a recipe that has none to train
        check_files(run)
    pipeline.run_until("segmenter")
    figures = pipeline.figures("segmenter")
    if as_json:
        print_json(figures)
        return
    table = Table(title="segmenter on real test images (higher is better)", show_header=False)
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}")
    CONSOLE.print(table)


@app.command()
def train_supernet(recipe: RecipeFile) -> None:
    """Distil the once-for-all supernet (and train the teacher first if need be)."""
    _run_until(recipe, "supernet")


@app.command()
def search(
    recipe: RecipeFile,
    resume: Annotated[
        bool, typer.Option("--resume", help="Refuse to begin anew: there must be evaluations of this supernet.")
    ] = False,
) -> None:
    """Search for the best sub-generator within the budget, in this process.

    Sub-generators are scored as the supernet holds them or, with search.weights reconstructed, with weights that are
    solved from the teacher; then no supernet is trained.

    Every evaluation of the same weights that has ended is reused, also after a crash, and under another budget,
    strategy or number of evaluations, with or without --resume.
    """
    _run_until(recipe, "search", resume)


@app.command()
def finetune(recipe: RecipeFile) -> None:
    """Fine-tune the best sub-generator; the better of before and after is kept."""
    _run_until(recipe, "finetune")


@app.command()
def export(
    recipe: RecipeFile,
    formats: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Names of formats, by commas, for example onnx,int8; docs/deploy.md lists them.",
        ),
    ] = "onnx",
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Files that take other heights and widths too.")
    ] = False,
    as_bytes: Annotated[
        bool,
        typer.Option(
            "--bytes", help="Files with normalisation inside: uint8 N x H x W x C in and out, called compressed.bytes.*"
        ),
    ] = False,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 13 to 20.")] = 17,
    as_json: AsJson = False,
) -> None:
    """Write weights, summary and image of the compressed generator, and files of it for other runtimes.

    Each of these is run back on test images; export/files.json says how far it is from the network.
    """
    wanted = _formats(formats)
    _run_until(recipe, "export")
    from ganc_nni.core.lock import run_lock
    from ganc_nni.recipe import load_recipe
    from ganc_nni.run import Run
    from ganc_nni.stages.deploy import deploy_run
    from ganc_nni.stages.export import renew_remarks

    run = Run(load_recipe(recipe))
    with run_lock(run.folder):
        made = deploy_run(run, wanted, dynamic_size, as_bytes, opset)
        renew_remarks(run.folder / "export", made)
    if as_json:
        print_json(made)
        return
    table = Table(title=f"{run.folder / 'export'}: difference from the network, grey levels of 255")
    for column in ("file", "size (MB)", "largest", "mean", "score"):
        table.add_column(column, justify="left" if column == "file" else "right")
    for name, each in made.items():
        scores = [f"{key} {value:.4g}" for key, value in each.items() if key.endswith("/test")]
        figures = (f"{each['bytes'] / 1e6:.2f}", f"{each['largest']:.2g}", f"{each['mean']:.2g}", " ".join(scores))
        table.add_row(name, *figures)
    CONSOLE.print(table)
    for name, each in made.items():
        if "remark" in each:
            CONSOLE.print(f"{name}: {each['remark']}", soft_wrap=True)


def _formats(names: str) -> list[str]:
    # torch takes seconds to import; --help should not wait for it
    from ganc_nni.core.registry import load_plugins
    from ganc_nni.export import FORMATS

    load_plugins()
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    chosen = [name for name in FORMATS if name in wanted]
    if not chosen or len(chosen) < len(set(wanted)):
        raise InputError(f"--formats {names}: expected some of {', '.join(FORMATS)}, joined by commas")
    return chosen


@app.command()
def report(run: RunFolder, as_json: AsJson = False) -> None:
    """Print teacher next to compressed, and write all there is to see of a run as a page: RUN/report/index.html.

    The page needs no network and no other file. What a run has not reached yet is left out of it.
    """
    from ganc_nni.report.build import PAGE, write_page
    from ganc_nni.report.collect import collect
    from ganc_nni.stages.export import read_summary

    found = collect(run)
    if as_json:
        if found.summary is None:
            raise InputError(f"{run}: no export/summary.json there; expected the folder of a finished run")
        print_json(read_summary(run))
    else:
        if found.summary is not None:
            _print_table(run, found.summary)
        CONSOLE.print(f"report:       {run / PAGE}", soft_wrap=True)
    write_page(run, found)


def _print_table(folder: Path, summary: Summary) -> None:
    height, width = summary.image_size
    table = Table(title=f"{folder.name} at {height}x{width}, {summary.metric} on {summary.test_pictures} test images")
    for column in ("", "teacher", "compressed", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for row in summary.rows():
        table.add_row(*row)
    CONSOLE.print(table)
    CONSOLE.print(summary.verdict.sentence, soft_wrap=True)
    for name, remark in summary.remarks.items():
        CONSOLE.print(f"{name}: {remark}", soft_wrap=True)
    CONSOLE.print(f"architecture: {folder / 'architecture.json'}", soft_wrap=True)
    if (folder / "export" / "picture.png").is_file():
        CONSOLE.print(f"image:        {folder / 'export' / 'picture.png'}", soft_wrap=True)
