from pathlib import Path

import pytest
import torch

from ganc_nni.core.errors import InputError
from ganc_nni.metrics import build_extractor
from ganc_nni.recipe import MetricRecipe


def test_random_features_need_nothing() -> None:
    extractor = build_extractor(MetricRecipe(name="frechet_random"), torch.device("cpu"))

    assert extractor.metric_name == "frechet_random"
    assert extractor.device == torch.device("cpu")


@pytest.mark.parametrize("name", ["fid", "frechet_imagenet"])
def test_weights_and_dims_come_from_the_recipe(name: str, tmp_path: Path) -> None:
    recipe = MetricRecipe.model_validate({"name": name, "dims": 192, "weights": tmp_path / "none.pth"})

    with pytest.raises(InputError, match=r"none.pth: no such file"):
        build_extractor(recipe)


def test_an_unknown_name_lists_the_valid_ones() -> None:
    recipe = MetricRecipe.model_construct(name="kid")

    with pytest.raises(InputError, match=r"'kid'.* expected one of fid, frechet_imagenet, frechet_random"):
        build_extractor(recipe)
    with pytest.raises(InputError, match=r"metric\.name miou: compares no features"):
        build_extractor(MetricRecipe(name="miou"))
