"""What the tuner asks of NNI's server over its REST API, because NNI's tuner protocol has no word for it."""

from __future__ import annotations

import os
import threading
import time
from urllib.parse import urlsplit

import psutil
from nni.experiment import rest


class Manager:
    """NNI's server, as its tuner's process sees it."""

    def __init__(self) -> None:
        self._port = urlsplit(os.environ["NNI_TUNER_COMMAND_CHANNEL"]).port

    @property
    def resumed(self) -> bool:
        """Whether the experiment goes on after `nnictl resume`."""
        return os.environ.get("NNI_MODE") == "resume"

    def trials(self) -> int:
        """How many trials the experiment has had, earlier sessions' included."""
        return len(rest.get(self._port, "/trial-jobs"))

    def concurrency(self) -> int:
        """How many trials may run at once; the web UI can change it."""
        return int(rest.get(self._port, "/experiment")["params"]["trialConcurrency"])

    def end_after(self, trials: int | None) -> None:
        """Tell NNI how many trials there are in all; None: that is not known yet.

        Without a number an experiment is never done.
        """
        profile = rest.get(self._port, "/experiment")
        profile["params"].pop("maxTrialNumber", None)
        if trials is not None:
            profile["params"]["maxTrialNumber"] = trials
        rest.put(self._port, "/experiment?update_type=MAX_TRIAL_NUM", profile)


def end_with_server(poll_seconds: float = 0.5) -> None:
    """Have this process end when NNI's server is gone, at once and whatever it is doing.

    NNI's own tuner process asks for a new connection for 10 seconds, in which a resumed experiment would find the run
    folder still in use.
    """
    parents = psutil.Process().parents()
    server = next((each for each in parents if each.name().startswith("node")), None)
    if server is None:
        return

    def watch() -> None:
        while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
            time.sleep(poll_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()
