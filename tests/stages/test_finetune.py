"""What fine-tuning starts from, and what it keeps."""

import math

import pytest
import torch
from tiny import SCHEDULE, recipe

from ganc_nni.core.io import load_weights
from ganc_nni.generators.architecture import Architecture
from ganc_nni.run import Run
from ganc_nni.stages.finetune import _best
from ganc_nni.stages.pipeline import Pipeline

LABELS = {"generator": {"family": "spade"}, "data": {"layout": "labels", "image_size": [64, 64]}}


@pytest.mark.parametrize(
    ("scores", "lower", "higher"),
    [
        ({"before": 2.0, "after": 1.0}, "after", "before"),
        ({"before": 1.0, "after": 2.0}, "before", "after"),
        ({"before": 1.0, "after": 1.0}, "before", "before"),
        ({"before": 1.0, "after": math.nan}, "before", "before"),
        ({"before": math.nan, "after": 1.0}, "after", "after"),
        ({"before": math.inf, "after": -1.0}, "after", "after"),
    ],
    ids=str,
)
def test_the_better_one_is_what_the_metric_says(scores, lower, higher):
    assert _best(Run(recipe("space.json")), scores) == lower
    assert _best(Run(recipe("space.json", metric={"name": "miou"}, **LABELS)), scores) == higher


def part(weights, prefix):
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def test_it_begins_with_what_the_supernet_has_left_and_scores_the_average(finished_copy):
    """With rates of next to nothing discriminator and mappings end as they begin; the student's average lags behind."""
    schedule = {**SCHEDULE, "learning_rate": 1e-12, "discriminator_learning_rate": 1e-12, "ema": 0.5}
    run = Run(recipe("space.json", finetune=schedule))
    Pipeline(run).run_until("finetune")
    left = torch.load(run.folder / "finetune" / "last.ckpt", "cpu", weights_only=True)["state_dict"]
    helpers = load_weights(run.folder / "supernet" / "helpers.safetensors")
    for prefix in ("discriminator.", "mappings."):
        begun, ended = part(helpers, prefix), part(left, prefix)
        assert begun.keys() == ended.keys() != set()
        assert all(torch.allclose(ended[key], value, atol=1e-9) for key, value in begun.items())
    network = Architecture.load(run.folder / "architecture.json").network().state_dict()
    assert part(left, "average.network.").keys() == network.keys()


def test_the_score_after_is_that_of_the_average(finished_copy):
    run = Run(recipe("space.json", finetune={**SCHEDULE, "learning_rate": 1e-3, "ema": 0.5}))
    Pipeline(run).run_until("finetune")
    best = torch.load(run.folder / "finetune" / "best.ckpt", "cpu", weights_only=True)["state_dict"]
    network, scores = Architecture.load(run.folder / "architecture.json").network(), []
    for prefix in ("average.network.", "_model."):
        network.load_state_dict(part(best, prefix))
        scores.append(run.evaluator("search").score(network))
    assert Pipeline(run).record("finetune")["after"] == scores[0] != scores[1]
