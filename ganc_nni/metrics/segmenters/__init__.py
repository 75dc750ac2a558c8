"""Segmentation networks: the published ones that score generated images, and small ones trained on own labels."""

from ganc_nni.metrics.segmenters.segmenters import NETWORKS, Segmenter, build_segmenter, network_classes, new_network

__all__ = ["NETWORKS", "Segmenter", "build_segmenter", "network_classes", "new_network"]
