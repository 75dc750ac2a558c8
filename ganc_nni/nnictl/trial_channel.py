"""What a trial and NNI tell each other, without NNI's package.

``import nni`` takes two seconds of CPU, for scipy.stats and pandas; a scoring trial has less to do than that. NNI's
local and remote services speak JSON over HTTP with their trials (nni/runtime/trial_command_channel/v3.py), which needs
no package. Trials of NNI's other services go through it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.structured import parse_json, read_json

_log = logging.getLogger(__name__)

Record = dict[str, Any]
"""What NNI keeps of a trial's parameters: ``parameter_id``, ``parameters`` and more."""

_UNTIL_LISTED = 10.0
"""Seconds after its start at which NNI lists a trial at the latest."""


def own_record() -> Record:
    """The parameters that NNI's web UI shows with this trial.

    NNI 3.0 hands out parameters in the order in which trials ask, not in which it has started them; trials that start
    together would swap theirs, and each would be shown with, and blamed for, what the other did. NNI also drops the
    metrics of a trial that it does not list yet, so that even a trial that knows its parameters waits for the list.
    """
    url = os.environ.get("NNI_TRIAL_COMMAND_CHANNEL", "")
    if not url.startswith("http://"):
        import nni

        nni.get_next_parameter()
        return nni.trial._params
    _call("PUT", url, {"type": "request_parameter"})
    while (answer := _call("GET", url))[0] == 408:  # NNI's word for: not yet
        pass
    status, text = answer
    if status != 200:
        raise ConnectionError(f"NNI has no parameters for this trial, its server says {status} {text}")
    return _listed() or _record(parse_json(text)["parameter"])


def report_final(record: Record, metric: dict[str, Any]) -> None:
    """Tell NNI this trial's final metric; ``metric["default"]`` is what it ranks by."""
    url = os.environ.get("NNI_TRIAL_COMMAND_CHANNEL", "")
    if not url.startswith("http://"):
        import nni

        nni.report_final_result(metric)
        return
    report = {
        "parameter_id": record["parameter_id"],
        "trial_job_id": os.environ["NNI_TRIAL_JOB_ID"],
        "type": "FINAL",
        "sequence": 0,
        "value": json.dumps(metric),
    }
    status, text = _call("PUT", url, {"type": "metric", "metric": json.dumps(report)})
    if status != 200:
        raise ConnectionError(f"NNI's server does not take the final metric: {status} {text}")


def server_url() -> str:
    """Where NNI's server listens, as seen from this machine.

    A local trial's channel leads to the server itself. That of a trial on another machine leads to NNI's trial keeper
    there, which knows no trial's parameters, but keeps the server's address in its configuration; the newest one
    counts, since a resumed experiment starts another keeper.
    """
    environment = Path(os.environ["NNI_OUTPUT_DIR"]).parents[1]
    keepers = list(environment.glob("trial_keeper*/trial_keeper_config.json"))
    if keepers:
        newest = max(keepers, key=lambda path: path.stat().st_mtime_ns)
        url = urlsplit(read_json(newest)["managerCommandChannel"])
    else:
        url = urlsplit(os.environ["NNI_TRIAL_COMMAND_CHANNEL"])
    prefix = url.path.partition("/platform/" if keepers else "/env/")[0]  # of `nnictl create --url_prefix`
    return f"http://{url.netloc}{prefix}"


def _listed() -> Record | None:
    """The parameters by NNI's list of trials; None on a machine that does not reach NNI's server."""
    deadline = time.monotonic() + _UNTIL_LISTED
    status = 0
    while status != 404 and time.monotonic() < deadline:
        try:
            status, text = _call("GET", f"{server_url()}/api/v1/nni/trial-jobs/{os.environ['NNI_TRIAL_JOB_ID']}")
        except (OSError, HTTPException):
            break
        if status == 200:
            return _record(parse_json(text)["hyperParameters"][0])
        time.sleep(0.05)
    _log.warning("NNI's server cannot be asked for this trial's parameters; taking those that it handed out")
    return None


def _record(text: str) -> Record:
    """What NNI says that a trial shall do.

    Raises:
        InputError: It is nothing that a trial could do.
    """
    try:
        record = parse_json(text)
        if isinstance(record["parameters"], dict):
            return record
    except (ValueError, TypeError, KeyError):
        pass
    raise InputError(f"NNI's parameters of this trial: got {quoted(text)}; expected a stage or widths by label")


def _call(method: str, url: str, body: object = None) -> tuple[int, str]:
    """Status and text of an answer."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "localhost", parts.port, timeout=60)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, parts.path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
