"""What a student is worth before any training, and what a candidate of a search costs, for three sub-generators.

Weights are random, inherited or reconstructed. A candidate of a supernet costs the seconds of its score alone, one of
search.weights reconstructed those of "reconstructed, shared" besides; what is shared is in the row of the teacher.

Teacher: the generator that GAN Compression released, on horse2zebra; GANC_DATA names the folder with
datasets/horse2zebra and weights/. Or that of a recipe (--recipe), whose teacher is trained first if it is not yet.
Score: the recipe's metric on the search split. L1: mean distance to the teacher's outputs on the first images of it.
"""

from __future__ import annotations

from common import ROOT, quiet, show  # first: it says how torch's threads wait

# isort: split
import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from horse2zebra_options import parser as horse2zebra_parser
from horse2zebra_options import recipe_of

from ganc_nni.core.errors import in_one_line
from ganc_nni.generators import Generator
from ganc_nni.generators.space import parse_widths
from ganc_nni.metrics.evaluator import translate
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.warm_start import IMAGES, reconstructing
from ganc_nni.supernet.inherit import channel_order, inherit
from ganc_nni.supernet.reconstruct import reconstruct
from ganc_nni.training.gan import initialise

RELEASED = "weights/gan_compression_horse2zebra_16_16_32_16_32_32_16_16.pth"
WIDTHS = ("16_16_32_16_32_32_16_16", "12_12_24_12_24_24_12_12", "8_8_8_8_8_8_8_8")
COMPARED = 8
"""Images of the search split on which outputs are compared with the teacher's."""


def starts(run: Run, teacher: Generator) -> Iterator[tuple[str, Callable[[Generator], None]]]:
    """Each way to fill an initialised network with weights, by name."""
    images = run.training_inputs(IMAGES)
    by_weights, by_activations = (channel_order(teacher, images, activations) for activations in (False, True))
    yield "random", lambda network: None
    yield "inherited, by weights alone", lambda network: inherit(network, teacher, by_weights)
    yield "inherited", lambda network: inherit(network, teacher, by_activations)

    def solve(network: Generator) -> None:
        inherit(network, teacher, by_activations)
        reconstruct(network, teacher, by_activations, images)

    yield "reconstructed", solve


def main() -> None:
    """Fill, score and print."""
    options = _options()
    quiet()
    os.environ["GANC_RUNS"] = str(options.out.resolve())
    run = _run(options)
    Pipeline(run).run_until("teacher")
    teacher, evaluator = run.load_teacher(), run.evaluator("search")
    sources = run.data.search.sources
    x = torch.stack([sources[index] for index in range(min(COMPARED, len(sources)))])
    with torch.inference_mode():
        taught = translate(teacher, x)
    start = time.process_time()
    candidates = reconstructing(run)
    shared = time.process_time() - start
    evaluator.score(teacher)  # it reads the images
    start = time.process_time()
    score = evaluator.score(teacher)
    seconds = time.process_time() - start
    rows = [("teacher", str(run.teacher_widths), f"{score:.4f}", "0", f"{shared:.1f} (shared)", f"{seconds:.1f}")]
    labels = tuple(run.space.choices)
    for text in options.widths or [str(each) for each in (run.space.largest(), run.space.smallest())]:
        widths = parse_widths(text, labels)
        ways: list[tuple[str, Callable[[Generator], None] | None]] = [*starts(run, teacher)]
        for name, fill in [*ways, ("reconstructed, shared", None)]:
            torch.manual_seed(run.recipe.seed)
            network = run.student_config.build(list(widths.values()))
            initialise(network, run.recipe.generator.family)
            start = time.process_time()
            if fill is None:
                network = candidates(widths)
            else:
                fill(network)
            filled = time.process_time() - start
            with torch.inference_mode():
                distance = float((translate(network.eval(), x) - taught).abs().mean())
            start = time.process_time()
            score = evaluator.score(network)
            seconds = time.process_time() - start
            rows.append((name, text, f"{score:.4f}", f"{distance:.4f}", f"{filled:.1f}", f"{seconds:.1f}"))
    columns = ("weights", "widths", "score", "L1 to the teacher", "CPU seconds", "of the score")
    show("before any training", columns, rows)


def _run(options: argparse.Namespace) -> Run:
    if options.recipe is not None:
        return Run(load_recipe(options.recipe))
    given = ["--device", "cpu", "--out", str(options.out), "--size", *map(str, options.size)]
    given += ["--set", f"teacher.checkpoint={RELEASED}"]
    recipe = recipe_of(horse2zebra_parser().parse_args(given))
    options.widths = options.widths or WIDTHS
    return Run(recipe)


def _options() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--recipe", type=Path, help="another teacher; left out: the released one on horse2zebra")
    found.add_argument("--widths", nargs="+", help="configuration strings; left out: three, or the space's extremes")
    found.add_argument(
        "--size", nargs=2, type=int, default=(256, 256), help="height and width with the released teacher"
    )
    found.add_argument("--out", type=Path, default=ROOT / "runs" / "warm_start", help="folder of the runs")
    return found.parse_args()


if __name__ == "__main__":
    with in_one_line():
        main()
