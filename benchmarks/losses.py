"""Which loss teaches a student best: each alone beside the published ones, the same steps, several seeds.

For every set of images one teacher is trained; then every choice of losses trains the same student, of one width in
all layers, from scratch. The score is the Fréchet distance of the student's test images to the real ones (lower is
better), given as mean and standard deviation over the seeds. Real sets are those in the folder that GANC_DATA names;
where it is unset, drawn images stand in for them.

A row is a finished training. Rows stay in the folder --out: the same command goes on where it stopped or was killed,
within a training from its last epoch, and prints what there is. Other options make other rows.
"""

from __future__ import annotations

from common import quiet  # first: it says how torch's threads wait

# isort: split
import argparse
import hashlib
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from ganc_nni.core.errors import in_one_line
from ganc_nni.core.io import read_json, write_text
from ganc_nni.generators.resnet import LABELS
from ganc_nni.losses.distillation import LOSSES
from ganc_nni.metrics.evaluator import Evaluator
from ganc_nni.recipe import DistillationRecipe, Schedule, load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import distillation_module
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import StageFit, part

SETS: dict[str, dict[str, Any]] = {
    "horse2zebra": {"layout": "unpaired", "root": "datasets/horse2zebra"},
    "facades": {"layout": "paired", "root": "datasets/facades", "direction": "BtoA"},
    "edges2shoes": {"layout": "paired", "root": "datasets/edges2shoes"},
}
DRAWN: dict[str, dict[str, Any]] = {
    "drawn_unpaired": {"layout": "unpaired", "procedural_images": 160},
    "drawn_paired": {"layout": "paired", "procedural_images": 160},
}
"""The section data of a recipe by name."""

PUBLISHED: dict[bool, dict[str, float]] = {
    True: {"lambda_recon": 100, "lambda_distill": 1},
    False: {"lambda_recon": 10, "lambda_distill": 0.01},
}
"""GAN Compression's weights, with pairs and without; the adversarial loss has 1."""

UNTAUGHT = {"lambda_distill": 0}
OMGD = {"lambda_gan": 0, "lambda_recon": 0, **UNTAUGHT, "lambda_ssim": 10, "lambda_tv": 1e-5, "lambda_channel": 500}


def choices(unit: float, vgg: Path | None) -> dict[str, dict[str, Any]]:
    """What is compared, as changes of the published weights.

    Args:
        unit: A tenth of lambda_recon, so that new losses weigh against it alike with pairs and without.
        vgg: File of VGG19's weights; without it the losses that need it are left out.
    """
    found: dict[str, dict[str, Any]] = {
        "published (mapped features)": {},
        "no features": UNTAUGHT,
        "kernel alignment (CAT)": {**UNTAUGHT, "lambda_kernel_alignment": unit},
        "channels (OMGD)": {**UNTAUGHT, "lambda_channel": unit},
        "wavelets (Wavelet-KD)": {**UNTAUGHT, "lambda_wavelet": unit},
        "SSIM (OMGD)": {**UNTAUGHT, "lambda_ssim": unit},
        "total variation (OMGD)": {**UNTAUGHT, "lambda_tv": 1e-5 * unit},
        "discriminator features (DCD)": {**UNTAUGHT, "lambda_discriminator_features": unit},
        "no discriminator, no truth (OMGD without VGG)": OMGD,
        "the same, teachers train on (OMGD without VGG)": {**OMGD, "online_blocks": 3},
    }
    if vgg is not None:
        textures = {"lambda_style": 1e3 * unit, "lambda_content": unit, "perceptual_weights": vgg}
        found["style and content (OMGD)"] = {**UNTAUGHT, **textures}
        whole = {**OMGD, **textures, "lambda_style": 1e4, "lambda_content": 10}
        found["no discriminator, no truth (OMGD)"] = whole
        found["the same, teachers train on (OMGD)"] = {**whole, "online_blocks": 3}
    return found


@dataclass(frozen=True)
class Place:
    """A set of images, its teacher, and its scores."""

    name: str
    run: Run

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores on the test images."""
        return self.run.evaluator("test")

    def losses(self, vgg: Path | None) -> dict[str, DistillationRecipe]:
        """What is compared on this set."""
        published = PUBLISHED[self.run.recipe.data.paired]
        base, unit = {"gan_loss": "lsgan", "lambda_gan": 1, **published}, published["lambda_recon"] / 10
        return {name: DistillationRecipe(**{**base, **changes}) for name, changes in choices(unit, vgg).items()}


def main() -> None:
    """Train what is missing, and print the table."""
    options = _options()
    quiet()
    os.environ["GANC_RUNS"] = str(options.out.resolve())
    start = time.monotonic()
    places = [_place(name, options) for name in options.sets]
    left = 0
    for seed, place, name, losses in _rows(places, options):
        path = _row(place, losses, seed, options)
        if path.is_file():
            continue
        if options.minutes and time.monotonic() - start > 60 * options.minutes:
            left += 1
            continue
        write_text(
            path, json.dumps({"losses": name, "seed": seed, **_train(place, losses, seed, options, path.parent)})
        )
    _show(places, options)
    if left:
        print(f"\n{left} rows are missing; the same command goes on")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    real = "GANC_DATA" in os.environ
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *DRAWN], default=list(SETS if real else DRAWN))
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each choice")
    parser.add_argument("--steps", type=int, default=600, help="steps of a student, about: whole epochs")
    parser.add_argument("--teacher-steps", type=int, default=1500, help="steps of a teacher, about: whole epochs")
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64), help="height and width, pixels, multiple of 4")
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--teacher-width", type=int, default=16, help="channels of the teacher's first layer")
    parser.add_argument("--width", type=int, default=8, help="channels of the student's first layer")
    parser.add_argument("--blocks", type=int, default=6, help="residual blocks of both")
    parser.add_argument("--minutes", type=float, help="begin no training after this time; left out: finish all")
    parser.add_argument("--vgg19", type=Path, help="torchvision's VGG19 weights, for the losses that need them")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: CUDA if there is one")
    parser.add_argument("--out", type=Path, default=Path("runs/losses"), help="folder of teachers and rows")
    return parser.parse_args()


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults, keep the description's lines."""


def _rows(places: Sequence[Place], options: argparse.Namespace) -> Iterator[tuple[int, Place, str, DistillationRecipe]]:
    """Every row; all choices have one seed before any has two."""
    for seed in range(options.seeds):
        for place in places:
            for name, losses in place.losses(options.vgg19).items():
                yield seed, place, name, losses


def _place(name: str, options: argparse.Namespace) -> Place:
    """A set, its teacher not yet trained."""
    size = list(options.size)
    data = {**{**SETS, **DRAWN}[name], "image_size": size, "load_size": [side * 9 // 8 for side in size], "cache": True}
    drawn, space = name in DRAWN, options.out.resolve() / f"width_{options.width}.json"
    write_text(space, json.dumps({label: {"_type": "choice", "_value": [options.width]} for label in LABELS}))
    content = {
        "device": options.device,
        "data": data,
        "teacher": {"width": options.teacher_width, "n_blocks": options.blocks},
        "student": {"space": str(space), "n_blocks": options.blocks},
        "discriminator": {"width": 16, "n_layers": 2},
        "metric": {"name": "frechet_random" if drawn else "frechet_imagenet", "dims": 768},
        "search": {"budget": 1e12},
    }
    path = options.out / f"{name}.recipe.yml"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    recipe = load_recipe(path)
    images = len(Run(recipe).data.train)
    schedule = _schedule(_epochs(options.teacher_steps, images, options.batch), options.batch)
    return Place(
        name, Run(recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"schedule": schedule})}))
    )


def _epochs(steps: int, images: int, batch: int) -> int:
    return max(2, round(steps / max(1, images // batch)))


def _schedule(epochs: int, batch: int) -> Schedule:
    """Half of the epochs at the full rate; nothing is scored before the end."""
    decay = epochs // 2
    return Schedule(epochs=max(1, epochs - decay), decay_epochs=decay, batch_size=batch, validate_every=10**6)


def _row(place: Place, losses: DistillationRecipe, seed: int, options: argparse.Namespace) -> Path:
    """Where the outcome of a training lies; the name depends on all that the outcome does."""
    given = losses.model_dump(mode="json", exclude_defaults=True, exclude={"losses"})
    given |= {f"lambda_{name}": weight for name, weight in losses.losses.items() if weight != LOSSES[name].weight}
    depends: list[Any] = [given, Pipeline(place.run).key("teacher")]
    depends += [options.steps, options.batch, options.width, options.blocks, seed]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    return place.run.folder / "students" / digest[:16] / "row.json"


def _train(
    place: Place, losses: DistillationRecipe, seed: int, options: argparse.Namespace, folder: Path
) -> dict[str, float]:
    """Train one student, before the first of a set its teacher; the student's score, steps and seconds."""
    Pipeline(place.run).run_stage("teacher")
    start = time.perf_counter()
    recipe = place.run.recipe.model_copy(update={"distillation": losses, "seed": seed})
    data, run = place.run.data, Run(recipe.model_copy(update={"seed": place.run.recipe.seed}))
    torch.manual_seed(seed)
    student = run.student_config.build(list(run.space.largest().values()))
    initialise(student)
    epochs = _epochs(options.steps, len(data.train), options.batch)
    schedule = _schedule(epochs, options.batch)
    module = distillation_module(run, schedule, None)
    module.set_model(student)
    fit = StageFit("student", recipe, schedule, data, folder)
    fit.trainer.limit_val_batches = 0
    weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    student.load_state_dict(part(weights, "_model."))
    seconds = time.perf_counter() - start
    steps = epochs * len(fit.train_loader)
    return {"score": place.evaluator.score(student.to(run.device)), "steps": steps, "seconds": round(seconds, 1)}


def _show(places: Sequence[Place], options: argparse.Namespace) -> None:
    """The table, as Markdown."""
    for place in places:
        metric = "frechet_random" if place.run.recipe.data.root is None else "frechet_imagenet, 768-d"
        print(f"\n{place.name}, {options.size[0]}x{options.size[1]}, {metric}, lower is better\n")
        print("| losses | mean | standard deviation | seeds | steps | seconds |\n|---|---|---|---|---|---|")
        for name, losses in place.losses(options.vgg19).items():
            paths = [_row(place, losses, seed, options) for seed in range(options.seeds)]
            rows = [read_json(path) for path in paths if path.is_file()]
            if rows:
                scores = [row["score"] for row in rows]
                spread = f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else "-"
                seconds = statistics.median(row["seconds"] for row in rows)
                cells = (name, f"{statistics.mean(scores):.4f}", spread, len(rows), rows[0]["steps"], f"{seconds:.0f}")
                print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    with in_one_line():
        main()
