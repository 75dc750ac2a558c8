"""How good images are: the metrics of recipes, and what they are made of."""

from __future__ import annotations

import torch

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.distance import FrechetDistance
from ganc_nni.metrics.features import FeatureExtractor, RandomFeatures
from ganc_nni.metrics.frechet import Gaussian, frechet_distance, frechet_interval
from ganc_nni.metrics.image_files import ImageFiles, Resize
from ganc_nni.metrics.inception import InceptionFeatures
from ganc_nni.metrics.kernel import kernel_distance, kernel_interval
from ganc_nni.metrics.kinds import (
    METRICS,
    ImageMetric,
    MetricContext,
    PerImageMetric,
    check_metric,
    metric_inputs,
    register_metric,
)
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
    "ImageMetric",
    "Images",
    "InceptionFeatures",
    "MetricContext",
    "PerImageMetric",
    "RandomFeatures",
    "Resize",
    "build_extractor",
    "check_metric",
    "extract_features",
    "frechet_distance",
    "frechet_interval",
    "kernel_distance",
    "kernel_interval",
    "load_origin",
    "load_statistics",
    "metric_inputs",
    "real_statistics",
    "register_metric",
    "save_statistics",
]


def build_extractor(recipe: MetricRecipe, device: torch.device | str = "cpu") -> FeatureExtractor:
    """The extractor that a recipe's metric compares features of, on ``device``.

    Raises:
        InputError: An unknown name, a metric without features, or weights that are missing or do not fit.
    """
    extractor = METRICS.find(recipe.name).extractor(recipe)
    if extractor is None:
        raise InputError(f"metric.name {recipe.name}: compares no features of a network; use fid or frechet_random")
    return extractor.to(device)
