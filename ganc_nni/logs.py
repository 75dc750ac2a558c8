"""What the project's processes say, and what they keep quiet about."""

import logging
import warnings

NOISE = (
    ".*is found to be not a nn.Module, which is unexpected.*",  # NNI 3.0 on a newer torch; harmless
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 on torch 2.11
    ".*Checkpoint directory .* exists and is not empty.*",  # it is the stage's own folder
    ".*does not have many workers.*",  # small sets load faster in the training process
)


def set_up(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Send the project's messages of ``level`` and more to ``handler``; drop known noise of the libraries.

    In a process of NNI's they also reach NNI's own log, as all messages do there.
    """
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("ganc_nni")
    logger.setLevel(level)
    logger.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    for name in ("pytorch_lightning", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
