"""Compress conditional GAN generators on top of Microsoft NNI: distil, search, fine-tune, export."""

__version__ = "0.1.0"
