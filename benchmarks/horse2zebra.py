"""Real horse2zebra from pictures to compressed generators, beside the generator that GAN Compression released.

Teacher, supernet, then for each budget search, fine-tuning and export; then every generator's score: Frechet distance
(768 features of torchvision's Inception) and kernel distance (KID) of the 120 translated horses of testA to the first
300 zebras of trainB. All that is chosen, is chosen by other pictures: a part of trainA and trainB that trains nothing.
GANC_DATA names the folder with datasets/horse2zebra and weights/.

With --minutes a call ends by itself in time, with exit code 75 where there is more to do: the same command goes on,
also after a kill. The table of what there is comes at the end of each call, and lies in the run's folder.
"""

from __future__ import annotations

from common import ROOT  # first: it says how torch's threads wait

# isort: split
import argparse
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from horse2zebra_estimate import estimate
from horse2zebra_tables import show
from rich.logging import RichHandler
from torch import nn
from torch.utils.data import DataLoader

from ganc_nni import logs
from ganc_nni.architecture import Architecture
from ganc_nni.checkpoints import load_weights, read_json, save_weights, write_text
from ganc_nni.data import list_images
from ganc_nni.data.folders import Pictures
from ganc_nni.errors import InputError, TrainingError
from ganc_nni.evaluate import pick_device, translate
from ganc_nni.interop import read_generator
from ganc_nni.lock import run_lock
from ganc_nni.macs import Cost
from ganc_nni.metrics import Gaussian, build_extractor, extract_features, frechet_distance, kernel_distance
from ganc_nni.metrics.statistics import Pictures as PictureSequence
from ganc_nni.pipeline import PEAKS, Pipeline
from ganc_nni.recipe import Recipe, load_recipe
from ganc_nni.run import Run
from ganc_nni.space import config_str
from ganc_nni.training import checkpointing

MORE_TO_DO = 75
"""Exit code of a call that ended in time; sysexits.h calls it EX_TEMPFAIL."""

TICK = 5.0
"""Seconds between two looks at the clock."""

CHECKPOINT_SECONDS = 20.0
"""Between two checkpoints: what the end of a call costs at most."""

ZEBRAS = 300
PUBLISHED_SIZE = (256, 256)
RELEASED = "gan_compression_horse2zebra_16_16_32_16_32_32_16_16.pth"
INCEPTION = "inception_v3_imagenet_to_mixed_7a.fp16.safetensors"


class Clock:
    """Seconds of every stage in all calls together, kept on the disk, and the end of this call.

    Args:
        path: JSON file of the stages: label, key, seconds and what else is known of each.
        minutes: After which the call ends; None: it does not.
    """

    def __init__(self, path: Path, minutes: float | None) -> None:
        self._path = path
        self._ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.stages: dict[str, dict[str, Any]] = read_json(path) if path.is_file() else {}
        self._running: dict[str, Any] | None = None
        self._since = time.monotonic()
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)

    @contextmanager
    def stage(self, label: str, key: str) -> Iterator[dict[str, Any]]:
        """Time what is done inside, as a part of the stage ``label``; another key means another stage of that name."""
        if self.stages.get(label, {}).get("key") != key:
            self.stages[label] = {"key": key, "seconds": 0.0}
        self._running, self._since = self.stages[label], time.monotonic()
        try:
            yield self._running
        finally:
            self._note()
            self._running = None

    def _note(self) -> None:
        """What has passed, on the disk: not even a kill takes more than a tick away."""
        if self._running is not None:
            now = time.monotonic()
            self._running["seconds"] += now - self._since
            self._since = now
            write_text(self._path, json.dumps(self.stages, indent=2) + "\n")

    def _tick(self, *_: Any) -> None:
        self._note()
        if time.monotonic() > self._ends:
            self._ends = math.inf  # what closes files on the way out is not to be disturbed
            raise SystemExit(MORE_TO_DO)


class Zebras:
    """The test: how far translated horses are from the zebras."""

    def __init__(self, run: Run) -> None:
        self.run, metric, size = run, run.recipe.metric, run.recipe.data.image_size
        root = run.recipe.data.root or Path()
        self.extractor = build_extractor(metric, run.device)
        zebras = Pictures(list_images(root / "trainB")[:ZEBRAS], 3, size)
        digest = hashlib.sha256(f"{zebras.digest()} {self.extractor.weights_sha256} {metric.dims}".encode()).hexdigest()
        path = run.folder / "statistics" / f"zebras_{digest[:16]}.safetensors"
        if not path.is_file():
            save_weights(path, {"features": extract_features(self.extractor, zebras, metric.batch_size)})
        self.zebras = load_weights(path)["features"]

    def distance(self, pictures: PictureSequence) -> dict[str, float]:
        """Both distances of a set of pictures."""
        features = extract_features(self.extractor, pictures, self.run.recipe.metric.batch_size)
        gaussians = [Gaussian.from_features(each) for each in (features, self.zebras)]
        return {"frechet": frechet_distance(*gaussians), "kid": kernel_distance(features, self.zebras)}

    @torch.inference_mode()
    def score(self, generator: nn.Module) -> dict[str, float]:
        """Both distances of the horses of testA, translated."""
        generator = generator.to(self.run.device).eval()
        batches = DataLoader(self.run.data.test.sources, self.run.recipe.metric.batch_size)
        made = [translate(generator, batch.to(self.run.device)).float().cpu() for batch in batches]
        return self.distance(torch.cat(made))  # type: ignore[arg-type]


class Work:
    """The run, and what is already known of it."""

    def __init__(self, recipe: Recipe, options: argparse.Namespace) -> None:
        self.run = Run(recipe)
        self.options = options
        self.folder = self.run.folder
        self.clock = Clock(self.folder / "times.json", options.minutes)
        self._zebras: Zebras | None = None
        self._test = f"{recipe.metric.name} {recipe.metric.dims} {recipe.data.root}"

    def everything(self) -> None:
        """All that is not done yet."""
        checkpointing.SECONDS = CHECKPOINT_SECONDS
        pipeline = Pipeline(self.run)
        budgets = [within(self.run, budget) for budget in self.options.budgets]
        for each in budgets:
            each.check()
        with run_lock(self.folder):
            self._row("real zebras (testB)", self._test, lambda zebras: zebras.distance(self.run.data.test.targets))
            self._row(
                "horses as they are (testA)", self._test, lambda zebras: zebras.distance(self.run.data.test.sources)
            )
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
            if path.is_file():
                return
            full = _parser().parse_args(["--device", self.options.device])
            full.out = self.options.out
            recipe = recipe_of(full)
        write_text(path, json.dumps(estimate(recipe, self.options.budgets), indent=2) + "\n")

    def show(self) -> None:
        """The tables of what there is, on the terminal and in files."""
        rows = [read_json(path) for path in sorted((self.folder / "scores").glob("*.json"))]
        path = self.folder / "estimate.json"
        show(self.run, rows, self.clock.stages, read_json(path) if path.is_file() else {})

    def _stage(self, pipeline: Pipeline, stage: str, label: str) -> None:
        if pipeline.done(stage):
            return
        run, key = pipeline.run, pipeline.key(stage)
        with self.clock.stage(label, key) as noted:
            record = pipeline.run_stage(stage)
            noted.update({name: record[name] for name in (PEAKS,) if name in record})
            schedules = {
                "teacher": run.recipe.teacher.schedule,
                "supernet": run.recipe.supernet.schedule,
                "finetune": run.recipe.finetune,
            }
            if (schedule := schedules.get(stage)) is not None:
                noted["steps"] = schedule.total_epochs * max(1, len(run.data.train) // schedule.batch_size)
                noted["batch"] = schedule.batch_size
            noted["done"] = True

    def _compress(self, name: str, run: Run) -> None:
        """Search, fine-tune, export and score within one budget; the next takes the same folders for its own."""
        pipeline, place = Pipeline(run), self.folder / "compressed" / name
        key = pipeline.key("export")
        if self._known(name, key):
            return
        for stage in ("search", "finetune", "export"):
            self._stage(pipeline, stage, f"{stage} {name}")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "export", place)
        file = read_generator(place / "compressed.safetensors")
        found = Architecture.load(place / "architecture.json")
        figures = {"search": min(pipeline.figures("finetune").values()), "widths": found.config_str}
        cost = run.student_cost.at(found.sample)
        self._row(name, key, lambda zebras: {**_costs(cost), **figures, **zebras.score(file.network())})

    def _released(self) -> None:
        path = Path(os.environ["GANC_DATA"]) / "weights" / RELEASED
        if path.is_file():
            file = read_generator(path)
            figures = {**_costs(file.cost(self.run.recipe.data.image_size)), "widths": config_str(file.sample)}
            name = "released by GAN Compression"
            self._row(name, self._test, lambda zebras: {**figures, **zebras.score(file.network())})

    def _teacher(self, zebras: Zebras, pipeline: Pipeline) -> dict[str, Any]:
        score = {"search": pipeline.figures("teacher")["score"]}
        return {**_costs(self.run.teacher_cost), **score, **zebras.score(self.run.load_teacher())}

    def _known(self, name: str, key: str) -> bool:
        path = self._path(name)
        return path.is_file() and read_json(path)["key"] == key

    def _path(self, name: str) -> Path:
        return self.folder / "scores" / f"{name.replace(' ', '_')}.json"

    def _row(self, name: str, key: str, score: Any) -> None:
        """A line of the table, unless it is there; ``key`` is of all that it depends on beside the test's pictures."""
        if self._known(name, key):
            return
        with self.clock.stage(f"score of {name}", key) as noted:
            if self._zebras is None:
                self._zebras = Zebras(self.run)
            figures = score(self._zebras)
            noted["done"] = True
        write_text(self._path(name), json.dumps({"name": name, "key": key, **figures}, indent=2) + "\n")


def within(run: Run, budget: float) -> Run:
    """The same run with that many published MACs at 256x256, as many fewer as the pictures are smaller."""
    scaled = budget * math.prod(run.recipe.data.image_size) / math.prod(PUBLISHED_SIZE)
    search = run.recipe.search.model_copy(update={"budget": scaled, "convention": "published"})
    found = Run(run.recipe.model_copy(update={"search": search}))
    found.data = run.data  # decoded once
    return found


def name_of(budget: float) -> str:
    """A budget as the table calls it, without what a file's name may not have."""
    return f"within {budget / 1e9:g}G"


def _costs(cost: Cost) -> dict[str, float]:
    return {"macs_published": cost.macs_published, "macs_true": cost.macs_true, "params": cost.params}


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The published recipe with what the options change; it is written beside the run's folder."""
    content = yaml.safe_load((ROOT / "experiments" / "cyclegan.recipe.yml").read_text(encoding="utf-8"))
    cuda = pick_device(options.device).type == "cuda"
    precision = options.precision or ("bf16" if cuda else "fp32")
    teacher_batch, student_batch = options.batch or ((4, 8) if cuda else (1, 1))
    batches, size = (teacher_batch, student_batch, student_batch), list(options.size)
    schedules = [_schedule(options, *each) for each in zip(options.epochs, batches, strict=True)]
    space = ROOT / "search_spaces" / "cyclegan_narrow.json"  # the published one begins at 1.42G MACs
    changes: dict[str, Any] = {
        "device": options.device,
        "data": {"image_size": size, "load_size": [round(side * 286 / 256) for side in size], "cache": True},
        "teacher": {"schedule": schedules[0]},
        "student": {"space": str(space)},
        "supernet": {"schedule": schedules[1]},
        "finetune": schedules[2],
        "acceleration": {"precision": precision, "channels_last": cuda, "compile": options.compile},
        "metric": {"name": "frechet_imagenet", "dims": 768, "weights": f"weights/{INCEPTION}", "batch_size": 32},
        "search": {"budget": options.budgets[0], "evaluations": options.evaluations, "precision": precision},
    }
    changes["data"] |= {"search_fraction": 0.1, "workers": min(8, (os.cpu_count() or 2) - 2) if cuda else 0}
    content = _merged(content, changes)
    for change in options.set:
        name, _, value = change.partition("=")
        for key in reversed(name.split(".")):
            value = {key: yaml.safe_load(value) if isinstance(value, str) else value}
        content = _merged(content, value)
    path = options.out / f"{size[0]}x{size[1]}.recipe.yml"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return load_recipe(path)


def _schedule(options: argparse.Namespace, epochs: int, batch: int) -> dict[str, Any]:
    """As published, the rate begins to fall after half of the epochs."""
    return {
        "epochs": max(1, epochs - epochs // 2),
        "decay_epochs": epochs // 2,
        "batch_size": batch,
        "learning_rate": 2e-4,
        "validate_every": max(1, round(epochs / options.validations)),
    }


def _merged(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(content[key], changes[key]) for key in changes if isinstance(content.get(key), dict)}
    return {**content, **changes, **both}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--minutes", type=float, help="end before that; left out: finish all")
    parser.add_argument("--estimate", action="store_true", help="only measure what the whole would take here")
    parser.add_argument("--size", type=int, nargs=2, default=PUBLISHED_SIZE, help="height and width, pixels")
    names = ("TEACHER", "SUPERNET", "FINETUNING")
    parser.add_argument("--epochs", type=int, nargs=3, default=(36, 80, 20), metavar=names, help="of all of trainB")
    parser.add_argument(
        "--batch", type=int, nargs=2, metavar=("TEACHER", "STUDENT"), help="pictures a step; left out: 4 8, CPU 1 1"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=(2.55e9, 1.41e9), help="published MACs at 256x256")
    parser.add_argument("--evaluations", type=int, default=200, help="candidates of each search")
    parser.add_argument("--validations", type=int, default=12, help="checkpoints of a training that are scored")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="left out: bf16, on a CPU fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile for all of fixed widths")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the recipe")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: CUDA if there is one")
    parser.add_argument("--out", type=Path, default=Path("runs/horse2zebra"), help="folder of the runs, one a size")
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults, keep the description's lines."""


def main() -> int:
    """Do what is missing and print what there is; returns the exit code."""
    options = _parser().parse_args()
    logs.set_up(RichHandler(console=logs.STDERR, show_path=False))
    options.out = options.out.resolve()
    os.environ["GANC_DATA"] = str(Path(os.environ.get("GANC_DATA", "")).resolve())
    os.environ["GANC_RUNS"] = str(options.out)
    try:
        recipe = recipe_of(options)
        work = Work(recipe, options)
        try:
            if not options.estimate:
                work.everything()
            if options.estimate or tuple(options.size) != PUBLISHED_SIZE:
                work.estimate()
        finally:
            work.show()
    except (InputError, TrainingError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).splitlines())}\n")
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
