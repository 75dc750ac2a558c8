"""What the tuner asks of NNI's server over its REST API, because NNI's tuner protocol has no word for it."""

from __future__ import annotations

import os
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from nni.experiment import rest

from ganc_nni.core.structured import parse_json
from ganc_nni.nnictl.evaluator_client import is_alive, owner

_UNFINISHED = {"WAITING", "RUNNING", "ADD_RESUMED"}
"""What NNI 3.0 says of a trial that has not ended; the last of one that a resumed experiment starts again."""


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

    def unfinished(self) -> list[Any]:
        """The parameters of the trials that have not ended."""
        jobs = [job for job in rest.get(self._port, "/trial-jobs") if job["status"] in _UNFINISHED]
        return [parse_json(text)["parameters"] for job in jobs for text in job.get("hyperParameters", [])]

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
    folder in use; and a stage would be trained for an experiment that nobody knows any more.
    """
    server = owner()

    def watch() -> None:
        while is_alive(server):
            time.sleep(poll_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()
