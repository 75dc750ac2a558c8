"""Where the score of one SPADE candidate spends its time: calibration, generation, segmentation.

The recipe's family, metric and sizes, on procedural label maps, with random weights of supernet and segmenter: times
do not depend on the weights. Calibration should take 20 % at most.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import ROOT, Stopwatch, quiet, show

# isort: split
import numpy as np
import torch

from ganc_nni.core.io import save_weights
from ganc_nni.metrics.evaluator import translate
from ganc_nni.metrics.segmenters import new_network
from ganc_nni.recipe import DataRecipe, SamplingRecipe, load_recipe
from ganc_nni.run import Run
from ganc_nni.supernet.calibration import calibrated
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training.gan import initialise

LIMIT = 0.20
"""Most of a candidate's time that calibration may take."""


@torch.inference_mode()
def main() -> None:
    """Score some candidates part by part and print the medians."""
    options = _options()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        run = _run(options.recipe, options.pictures, Path(folder))
        torch.manual_seed(0)
        supernet = make_supernet(run.new_space())
        initialise(supernet, "spade")
        supernet.eval()
        evaluator, calibration = run.evaluator("search"), run.calibration()
        sources = torch.stack([run.data.search.sources[index] for index in range(len(run.data.search.sources))])
    sampler, watch = WidthSampler(run.space, SamplingRecipe(), seed=0), Stopwatch()
    for number in range(options.candidates + 1):
        activate(supernet, sampler.draw(number))
        metric = evaluator.metric()
        watch.start()
        with calibrated(supernet, calibration):
            watch.stop("calibration")
            watch.start()
            outputs = translate(supernet, sources)
            watch.stop("generation")
        watch.start()
        metric.update(outputs, 0)
        metric.compute()
        watch.stop("segmentation")
    medians = {name: np.median(np.array(times[1:]), axis=0) for name, times in watch.times.items()}
    total = sum(medians.values())
    rows = [
        (name, f"{elapsed:.3f}", f"{cpu:.3f}", f"{100 * cpu / total[1]:.0f} %")
        for name, (elapsed, cpu) in medians.items()
    ]
    share = medians["calibration"][1] / total[1]
    verdict = f"calibration {'meets' if share <= LIMIT else 'misses'} {LIMIT:.0%}"
    size = "x".join(map(str, run.recipe.data.image_size))
    images = sum(map(len, calibration))
    title = f"one SPADE candidate, {size}, {len(sources)} images, {images} for calibration; {verdict}"
    show(title, ("medians", "seconds", "CPU seconds", "of all"), rows)


def _run(path: Path, images: int, folder: Path) -> Run:
    """The recipe on drawn label maps, with a segmenter of random weights."""
    recipe = load_recipe(path)
    total = 5 * images  # a fifth scores the search
    data = DataRecipe(layout="labels", procedural_images=total, image_size=recipe.data.image_size, cache=True)
    network = new_network(recipe.segmenter.network, data.classes or 0)
    save_weights(folder / "segmenter.safetensors", network.network.state_dict())
    weights = {"weights": folder / "segmenter.safetensors", "n_classes": data.classes, "classes": None}
    changes = {
        "data": data,
        "segmenter": recipe.segmenter.model_copy(update=weights),
        "student": recipe.student.model_copy(update={"space": ROOT / recipe.student.space}),
        "metric": recipe.metric.model_copy(update={"min_images": 2}),
        "device": "cpu",
    }
    return Run(recipe.model_copy(update=changes))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    default = ROOT / "experiments" / "gaugan_small.recipe.yml"
    parser.add_argument("recipe", type=Path, nargs="?", default=default, help="recipe file of a SPADE run")
    parser.add_argument("--pictures", type=int, default=55, help="label maps that a candidate translates")
    parser.add_argument("--candidates", type=int, default=5, help="candidates that count, after one that does not")
    return parser.parse_args()


if __name__ == "__main__":
    main()
