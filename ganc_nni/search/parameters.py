"""Which parameters NNI means for this trial; on the machine of NNI's server and on any other."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nni
import requests
from nni.runtime.env_vars import trial_env_vars

_log = logging.getLogger(__name__)

PATIENCE = 10
"""Seconds in which NNI's server may learn of a trial that it has just started."""


def own_parameters() -> dict[str, Any]:
    """The parameters that NNI's web UI shows with this trial.

    NNI 3.0 hands out parameters in the order in which trials ask, not in which it has started them; trials that start
    together would swap theirs, and each would be shown with, and blamed for, what the other did. Its remote service
    does the same between machines.
    """
    handed_out = nni.get_next_parameter()
    try:
        record = _ask(f"{server_url()}/api/v1/nni/trial-jobs/{nni.get_trial_id()}")
    except (OSError, ValueError, LookupError, TypeError) as error:  # requests' errors are OSErrors
        _log.warning("NNI's server does not say this trial's parameters (%s); taking those that it handed out", error)
        return handed_out
    nni.trial._params = record
    return record["parameters"]


def server_url() -> str:
    """Where NNI's server listens, as seen from this machine.

    A local trial's channel leads to the server itself. That of a trial on another machine leads to NNI's trial keeper
    there, which knows no trial's parameters but keeps the server's address in its configuration; the newest one
    counts, because a resumed experiment starts another keeper.
    """
    environment = Path(trial_env_vars.NNI_OUTPUT_DIR).parents[1]
    keepers = list(environment.glob("trial_keeper*/trial_keeper_config.json"))
    if keepers:
        newest = max(keepers, key=lambda path: path.stat().st_mtime_ns)
        channel = json.loads(newest.read_text(encoding="utf-8"))["managerCommandChannel"]
    else:
        channel = trial_env_vars.NNI_TRIAL_COMMAND_CHANNEL
    url = urlsplit(channel)
    prefix = url.path.partition("/platform/" if keepers else "/env/")[0]  # of an experiment with a --url_prefix
    return f"http://{url.netloc}{prefix}"


def _ask(url: str) -> dict[str, Any]:
    """NNI's record of parameters, of the job at ``url``."""
    with requests.Session() as session:
        session.trust_env = False  # the server is no matter of the machine's web proxy
        deadline = time.monotonic() + PATIENCE
        while True:
            response = session.get(url, timeout=PATIENCE)
            try:
                return json.loads(response.json()["hyperParameters"][0])
            except (ValueError, LookupError, TypeError):  # the server does not know the trial yet
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)
