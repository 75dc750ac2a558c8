"""The metrics that a recipe can choose; every module here may register some."""

from ganc_nni.core.registry import import_members
from ganc_nni.metrics.kinds.per_image import PerImageMetric
from ganc_nni.metrics.kinds.registry import (
    METRICS,
    ImageMetric,
    MetricContext,
    check_metric,
    metric_inputs,
    register_metric,
)

__all__ = [
    "METRICS",
    "ImageMetric",
    "MetricContext",
    "PerImageMetric",
    "check_metric",
    "metric_inputs",
    "register_metric",
]

import_members(__name__, __path__)
