"""What scores a generator: the Frechet distance between features of generated and of real images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ganc_nni.core.downloads import find
from ganc_nni.core.errors import InputError
from ganc_nni.metrics.distance import FrechetDistance
from ganc_nni.metrics.features import FeatureExtractor, RandomFeatures
from ganc_nni.metrics.frechet import Gaussian, frechet_distance, frechet_interval
from ganc_nni.metrics.image_files import ImageFiles, Resize
from ganc_nni.metrics.inception import InceptionFeatures, usual_files
from ganc_nni.metrics.kernel import kernel_distance, kernel_interval
from ganc_nni.metrics.statistics import (
    Images,
    extract_features,
    load_origin,
    load_statistics,
    real_statistics,
    save_statistics,
)
from ganc_nni.recipe import MetricRecipe

__all__ = [
    "METRICS",
    "FeatureExtractor",
    "FrechetDistance",
    "Gaussian",
    "ImageFiles",
    "Images",
    "InceptionFeatures",
    "RandomFeatures",
    "Resize",
    "build_extractor",
    "extract_features",
    "frechet_distance",
    "frechet_interval",
    "kernel_distance",
    "kernel_interval",
    "load_origin",
    "load_statistics",
    "real_statistics",
    "save_statistics",
    "weights_file",
]

METRICS: dict[str, Callable[[MetricRecipe], FeatureExtractor]] = {
    "fid": lambda recipe: InceptionFeatures(recipe.dims, recipe.weights, "fid"),
    "frechet_imagenet": lambda recipe: InceptionFeatures(recipe.dims, recipe.weights, "frechet_imagenet"),
    "frechet_random": lambda _recipe: RandomFeatures(),
}


def weights_file(recipe: MetricRecipe) -> Path | None:
    """The file of weights that :func:`build_extractor` reads; None if it reads none, or would have to download it."""
    if recipe.name not in ("fid", "frechet_imagenet"):
        return None
    return recipe.weights or find(usual_files(recipe.dims, recipe.name))


def build_extractor(recipe: MetricRecipe, device: torch.device | str = "cpu") -> FeatureExtractor:
    """The extractor that a recipe asks for, on ``device``.

    Raises:
        InputError: An unknown name, or weights that are missing or do not fit.
    """
    if recipe.name not in METRICS:
        raise InputError(f"metric.name: got {recipe.name!r}; valid: {', '.join(METRICS)}")
    return METRICS[recipe.name](recipe).to(device)
