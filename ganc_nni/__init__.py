"""Compress conditional GAN generators on top of Microsoft NNI: distil, search, fine-tune, export."""

import os

# Threads that wait for others must sleep, not spin: where trials, NNI's server and training share few cores, spinning
# made a training step 5 times slower (benchmarks/threads.py). Read once, when torch is loaded; so it is set here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
