"""What every test wants: one thread for its tiny networks, and the package's settings before torch is loaded."""

import ganc_nni  # noqa: F401, I001 (sets how OpenMP's threads wait, which torch reads when it is loaded)

import torch

torch.set_num_threads(1)
