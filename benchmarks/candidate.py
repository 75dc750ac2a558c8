"""What the search takes to score one candidate, beside a plain PyTorch loop over a network that was sliced out before.

Both translate the same pictures, use the same feature network and the same formula, and must come to the same score.
Candidates are drawn at random within the budget of the recipe. They are measured in turns.
"""

from __future__ import annotations

from common import Stopwatch, published, quiet, sliced_out

# isort: split
import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ganc_nni.evaluate import Evaluator
from ganc_nni.metrics import Gaussian, frechet_distance
from ganc_nni.oneshot.distillation import make_supernet
from ganc_nni.recipe import MetricRecipe
from ganc_nni.run import Run
from ganc_nni.search.stage import evaluate
from ganc_nni.space import Sample
from ganc_nni.training.gan import initialise


def main() -> None:
    """Measure and print one line a way of scoring."""
    options = _options()
    quiet()
    torch.manual_seed(options.seed)
    run = published((options.size[0], options.size[1]), pictures=5 * options.pictures)
    metric = MetricRecipe(
        name=options.metric, dims=options.dims, weights=options.weights, batch_size=options.batch_size, min_images=2
    )
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(metric, run.data.search, "search", run.device, Path(folder))
    supernet = make_supernet(run.new_space())
    initialise(supernet)

    watch = Stopwatch()
    for sample in _affordable(run, options.candidates + 1, options.seed):
        network = sliced_out(supernet, run.student_blueprint, sample)
        watch.start()
        score = evaluate(supernet, evaluator, sample).score
        watch.stop("ours")
        watch.start()
        expected = plain(network, evaluator)
        watch.stop("plain loop")
        if score is None or not math.isclose(score, expected, rel_tol=1e-4):
            raise RuntimeError(f"{sample} scores {score}, in the plain loop {expected}")
    height, width = options.size
    pictures = f"{len(run.data.search.sources)} pictures of {height}x{width} in batches of {options.batch_size}"
    watch.show(f"one candidate, {pictures}, {evaluator.metric_name}, {options.candidates} candidates", "ours", 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), help="height and width, pixels, multiple of 4")
    parser.add_argument("--pictures", type=int, default=32, help="pictures that are translated and scored")
    parser.add_argument("--batch-size", type=int, default=16, help="pictures at once")
    parser.add_argument("--candidates", type=int, default=5, help="sub-generators, after one that does not count")
    names = ("frechet_random", "frechet_imagenet", "fid")
    parser.add_argument("--metric", choices=names, default="frechet_random", help="what scores")
    parser.add_argument("--dims", type=int, choices=(64, 192, 768, 2048), default=768, help="features of Inception")
    parser.add_argument("--weights", type=Path, help="file of Inception's weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and candidates")
    return parser.parse_args()


def _affordable(run: Run, count: int, seed: int) -> list[Sample]:
    """Random samples within the budget."""
    random, search = np.random.default_rng(seed), run.recipe.search
    samples: list[Sample] = []
    budget = search.budget * math.prod(run.recipe.data.image_size) / 256**2
    while len(samples) < count:
        sample = {label: int(random.choice(widths)) for label, widths in run.space.choices.items()}
        if run.student_cost.at(sample).macs(search.convention) <= budget:
            samples.append(sample)
    return samples


@torch.inference_mode()
def plain(network: nn.Module, evaluator: Evaluator) -> float:
    """The score as one would write it by hand; the pictures are ready in memory, as ours are after the first time."""
    features = [evaluator.extractor.features(network(batch)) for batch in evaluator._batches]
    return frechet_distance(Gaussian.from_features(torch.cat(features)), evaluator.real)


if __name__ == "__main__":
    main()
