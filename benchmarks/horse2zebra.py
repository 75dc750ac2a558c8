"""Real horse2zebra from images to compressed generators, beside the generator that GAN Compression released.

Teacher (trained, or the file that --teacher names), supernet, then for each budget search, fine-tuning and export; then
every generator's score: Frechet distance (768 features of torchvision's Inception) and kernel distance (KID) of the 120
translated horses of testA to the first 300 zebras of trainB, with SSIM and PSNR to the teacher's images and a sentence
for each budget. All that is chosen, is chosen by other images: a part of
trainA and trainB that trains nothing.
GANC_DATA names the folder with datasets/horse2zebra and weights/.

With --minutes a call ends by itself in time, with exit code 75 where there is more to do: the same command goes on,
also after a kill. The table of what there is comes at the end of each call, and lies in the run's folder.
"""

from __future__ import annotations

from common import quiet  # first: it says how torch's threads wait

# isort: split
import argparse
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from horse2zebra_estimate import estimate
from horse2zebra_options import PUBLISHED_SIZE, RELEASED, RELEASED_FILE, name_of, parser, recipe_of, within
from horse2zebra_parts import Clock, Zebras
from horse2zebra_tables import show
from rich.logging import RichHandler

from ganc_nni.core import logs
from ganc_nni.core.errors import in_one_line
from ganc_nni.core.io import read_json, write_text
from ganc_nni.core.lock import run_lock
from ganc_nni.cost.macs import Cost
from ganc_nni.generators.architecture import Architecture
from ganc_nni.interop import read_generator
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import PEAKS, Pipeline
from ganc_nni.training import checkpointing

CHECKPOINT_SECONDS = 20.0
"""Between two checkpoints: what the end of a call costs at most."""

REAL, SOURCES = "zebras (testB)", "horses (testA)"


class Work:
    """The run, and what is already known of it."""

    def __init__(self, recipe: Recipe, options: argparse.Namespace) -> None:
        self.run = Run(recipe)
        self.options = options
        self.folder = self.run.folder
        self.clock = Clock(self.folder / "times.json", options.minutes)
        self._zebras: Zebras | None = None
        self._test = f"{recipe.metric.name} {recipe.metric.dims} clean {recipe.data.root}"

    def everything(self) -> None:
        """All that is not done yet."""
        checkpointing.SECONDS = CHECKPOINT_SECONDS
        pipeline = Pipeline(self.run)
        budgets = [within(self.run, budget) for budget in self.options.budgets]
        for each in budgets:
            check(each)
        with run_lock(self.folder):
            self._row(REAL, self._test, lambda zebras: zebras.distance(self.run.data.test.targets))
            self._row(SOURCES, self._test, lambda zebras: zebras.distance(self.run.data.test.sources))
            if self.options.teacher != RELEASED:  # else it is the teacher's line
                self._released()
            self._stage(pipeline, "teacher", "teacher")
            self._row("teacher", pipeline.key("teacher"), lambda zebras: self._teacher(zebras, pipeline))
            self._stage(pipeline, "supernet", "supernet")
            for budget, each in zip(self.options.budgets, budgets, strict=True):
                self._compress(name_of(budget), each)

    def estimate(self) -> None:
        """What the run would take or, if it is a small one and not known, a full one of the defaults."""
        path, recipe = self.folder / "estimate.json", self.run.recipe
        if not self.options.estimate:
            full = parser().parse_args(["--device", self.options.device])
            full.out, full.teacher = self.options.out, self.options.teacher
            recipe = recipe_of(full)
            if path.is_file() and read_json(path)["size"] == recipe.name:  # not one of --estimate
                return
        quiet()  # trainings that are ended after a few steps are no news, and nothing comes after
        write_text(path, json.dumps(estimate(recipe, self.options.budgets), indent=2) + "\n")

    def show(self) -> None:
        """The tables of what there is, on the terminal and in files."""
        keys = dict.fromkeys((REAL, SOURCES, RELEASED), self._test)
        keys["teacher"] = Pipeline(self.run).key("teacher")
        keys |= {name_of(each): Pipeline(within(self.run, each)).key("export") for each in self.options.budgets}
        rows = [read_json(self._path(name)) for name, key in keys.items() if self._known(name, key)]
        path = self.folder / "estimate.json"
        show(self.run, rows, self.clock.stages, read_json(path) if path.is_file() else {}, SOURCES)

    def _stage(self, pipeline: Pipeline, stage: str, label: str) -> None:
        if pipeline.done(stage):
            return
        run, key = pipeline.run, pipeline.key(stage)
        with self.clock.stage(label, key) as noted:
            record = pipeline.run_stage(stage)
            noted.update({name: record[name] for name in (PEAKS,) if name in record})
            schedules = {"supernet": run.recipe.supernet.schedule, "finetune": run.recipe.finetune}
            if run.recipe.teacher.checkpoint is None:  # else it is scored, not trained
                schedules["teacher"] = run.recipe.teacher.schedule
            if (schedule := schedules.get(stage)) is not None:
                noted["steps"] = schedule.total_epochs * max(1, len(run.data.train) // schedule.batch_size)
                noted["batch"] = schedule.batch_size
            elif stage == "search":
                noted["steps"] = run.recipe.search.evaluations
            noted["done"] = True

    def _compress(self, name: str, run: Run) -> None:
        """Search, fine-tune, export and score within one budget; the next takes the same folders for its own."""
        pipeline, place = Pipeline(run), self.folder / "compressed" / name.split()[-1]
        key = pipeline.key("export")
        if self._known(name, key):
            return
        for stage in ("search", "finetune", "export"):
            self._stage(pipeline, stage, f"{stage} {name}")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "export", place)
        file = read_generator(place / "compressed.safetensors")
        found = Architecture.load(place / "architecture.json")
        scores = pipeline.figures("finetune")
        figures = {"search": min(scores["before"], scores["after"]), "widths": found.config_str}
        cost = run.student_cost.at(found.widths)
        teacher = self.run.load_teacher()
        self._row(name, key, lambda zebras: {**_costs(cost), **figures, **zebras.compare(file.network(), teacher)})

    def _released(self) -> None:
        path = Path(os.environ["GANC_DATA"]) / "weights" / RELEASED_FILE
        if path.is_file():
            file = read_generator(path)
            figures = {**_costs(file.cost(self.run.recipe.data.image_size)), "widths": str(file.widths)}
            self._row(RELEASED, self._test, lambda zebras: {**figures, **zebras.score(file.network())})

    def _teacher(self, zebras: Zebras, pipeline: Pipeline) -> dict[str, Any]:
        figures = {"search": pipeline.figures("teacher")["score"], "widths": str(self.run.teacher_widths)}
        return {**_costs(self.run.teacher_cost), **figures, **zebras.score(self.run.load_teacher())}

    def _known(self, name: str, key: str) -> bool:
        path = self._path(name)
        return path.is_file() and read_json(path)["key"] == key

    def _path(self, name: str) -> Path:
        return self.folder / "scores" / f"{name.replace(' ', '_')}.json"

    def _row(self, name: str, key: str, score: Callable[[Zebras], dict[str, Any]]) -> None:
        """A line of the table, unless it is there; ``key`` is of all that it depends on beside the test's images."""
        if self._known(name, key):
            return
        with self.clock.stage(f"score of {name}", key) as noted:
            if self._zebras is None:
                self._zebras = Zebras(self.run)
            figures = score(self._zebras)
            noted["done"] = True
        write_text(self._path(name), json.dumps({"name": name, "key": key, **figures}, indent=2) + "\n")


def _costs(cost: Cost) -> dict[str, float]:
    return {"macs_published": cost.macs_published, "macs_true": cost.macs_true, "params": cost.params}


def main() -> None:
    """Do what is missing and print what there is."""
    options = parser(__doc__).parse_args()
    logs.set_up(RichHandler(console=logs.STDERR, show_path=False))
    logging.getLogger("nni").setLevel(logging.WARNING)  # the project's own messages say as much of each candidate
    options.out = options.out.resolve()
    os.environ["GANC_DATA"] = str(Path(os.environ.get("GANC_DATA", "")).resolve())
    os.environ["GANC_RUNS"] = str(options.out)
    work = Work(recipe_of(options), options)
    try:
        if not options.estimate:
            work.everything()
        if options.estimate or tuple(options.size) != PUBLISHED_SIZE:
            work.estimate()
    finally:
        work.clock.stop()
        work.show()


if __name__ == "__main__":
    with in_one_line():
        main()
