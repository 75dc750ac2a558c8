"""How good the chosen sub-generator is on images that had no say in its choice.

The best of many scores is better than it deserves: some of it is luck with the images that scored it. So its score is
taken once more on the test split, and, if the recipe asks for it, with other seeds, whose spread says how far to trust
a difference.
"""

from __future__ import annotations

from typing import NamedTuple

from ganc_nni.generators.architecture import Architecture
from ganc_nni.metrics.evaluator import Evaluator, GeneratedImages, Result
from ganc_nni.run import Run
from ganc_nni.stages.candidates import candidates_of
from ganc_nni.supernet.calibration import batch_norms, calibrated


class HeldOut(NamedTuple):
    """Scores of a sub-generator that the search has not seen.

    Attributes:
        first: On the test split.
        scores: All, that of the test split first.
    """

    first: Result
    scores: list[float]


def held_out_scores(
    run: Run, architecture: Architecture, evaluator: Evaluator, teacher: GeneratedImages | None = None
) -> HeldOut:
    """``search.repeats`` scores of a sub-generator with the weights with which the search has scored it.

    The first is on the test split. The others have a seed each: generators with batch norms are calibrated on other
    training images, for others as many images as the test split has are drawn from test and search split together.

    Args:
        run: The run.
        architecture: The sub-generator.
        evaluator: Of the test split.
        teacher: The teacher's images of the test split, with which those of the first score are compared.
    """
    network, test, search = candidates_of(run)(architecture.widths), run.data.test, run.data.search
    calibration = run.calibration()
    first, scores = None, []
    for repeat in range(run.recipe.search.repeats):
        seed = run.recipe.search.seed + repeat
        if repeat > 0 and batch_norms(network):
            calibration = run.calibration(seed)
        elif repeat > 0:
            evaluator = run.evaluator(f"redrawn {repeat}", test.redrawn(search, seed))
        with calibrated(network, calibration):
            first = first or evaluator.result(network, teacher)
            scores.append(evaluator.score(network) if repeat > 0 else first.score)
    assert first is not None  # search.repeats is 1 or more
    return HeldOut(first, scores)
