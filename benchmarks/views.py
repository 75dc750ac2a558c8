"""What fixed views of a teacher's outputs cost in quality: the same student, the same steps, several seeds.

One student of one width is distilled from input images alone with a fresh view of each image in every epoch, and with
``teacher.views`` of several numbers. Its likeness to the teacher is taken on test images: SSIM, mean and standard
deviation over the seeds. Trainings stay in the folder --out: the same command goes on where it stopped.
"""

from __future__ import annotations

from common import quiet, show  # first: it says how torch's threads wait

# isort: split
import argparse
import contextlib
import io
import json
import os
import statistics
from pathlib import Path
from typing import Any

import torch

from ganc_nni.core.io import write_text
from ganc_nni.generators.resnet import LABELS
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.sampling import activate

COLUMNS = ("views of each image", "SSIM to the teacher, test", "stdev", "seeds")


def main() -> None:
    """Train what is missing, and print the table."""
    options = _options()
    quiet()
    os.environ["GANC_RUNS"] = str(options.out.resolve())
    rows = []
    for views in options.views:
        scores = [_score(views, seed, options) for seed in range(options.seeds)]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        name = "fresh" if views == 0 else str(views)
        rows.append((name, f"{statistics.fmean(scores):.4f}", f"{spread:.4f}", str(len(scores))))
    side = options.size
    show(f"{options.teacher.name}, {side}x{side}, {options.epochs} epochs, width {options.width}", COLUMNS, rows)


def _options() -> argparse.Namespace:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=formatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a trained ResNet generator")
    parser.add_argument("--photos", type=Path, required=True, help="folder of its input images, or of trainA and testA")
    parser.add_argument("--views", type=int, nargs="+", default=[0, 1, 4], help="0: fresh ones")
    parser.add_argument("--epochs", type=int, default=4, help="of one image a step")
    parser.add_argument("--width", type=int, default=8, help="of every layer of the student")
    parser.add_argument("--size", type=int, default=64, help="height and width, pixels")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--out", type=Path, default=Path("runs/views"), help="folder for what is trained")
    return parser.parse_args()


def _score(views: int, seed: int, options: argparse.Namespace) -> float:
    """SSIM to the teacher on the test images, of a training that is made unless it is there."""
    options.out.mkdir(parents=True, exist_ok=True)
    space = options.out / f"width{options.width}.json"
    choices = {label: {"_type": "choice", "_value": [options.width]} for label in LABELS}
    write_text(space, json.dumps(choices))
    schedule = {"epochs": options.epochs, "decay_epochs": 0, "validate_every": options.epochs}
    name = f"views{views}_seed{seed}_{options.size}_{options.width}_{options.epochs}"
    content: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "device": "cpu",
        "data": {"layout": "inputs", "root": options.photos, "image_size": [options.size] * 2, "cache": True},
        "teacher": {"checkpoint": options.teacher, "views": views or None},
        "student": {"space": space},
        "distillation": {"lambda_gan": 0, "lambda_recon": 10, "lambda_ssim": 5, "lambda_distill": 0},
        "supernet": {"schedule": schedule},
        "metric": {"name": "ssim", "min_images": 2},
        "search": {"budget": 1e12},
    }
    run = Run(Recipe.model_validate(content))
    with contextlib.redirect_stdout(io.StringIO()):
        Pipeline(run).run_until("supernet")
    supernet = run.load_supernet()
    activate(supernet, run.space.largest())
    with torch.inference_mode():
        return run.evaluator("test").score(supernet)


if __name__ == "__main__":
    main()
