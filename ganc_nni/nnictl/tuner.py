"""What nnictl starts as the tuner of an experiment.

Light on purpose: NNI gives up on a tuner that has not connected after 10 seconds, and torch alone may take longer to
load. Everything else happens when NNI, connected, sends the search space.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.tuner import Tuner

from ganc_nni.core import logs
from ganc_nni.core.errors import InputError, TrainingError, one_line
from ganc_nni.core.files import replace_text
from ganc_nni.core.lock import run_lock
from ganc_nni.nnictl.nni_server import end_with_server
from ganc_nni.recipe import recipe_name, run_folder

if TYPE_CHECKING:
    from ganc_nni.nnictl.bridge import TrialSearch

_log = logging.getLogger(__name__)


class EvolutionTuner(Tuner):
    """NNI's tuner for a recipe: passes NNI's calls to a :class:`~ganc_nni.nnictl.bridge.TrialSearch`.

    An error in any of them ends the experiment, with its message in NNI's logs and in ``runs/NAME/error.txt``. Until
    its end no other experiment or command works in the run folder.

    Args:
        recipe: Path of the recipe, relative to ``trialCodeDirectory``.
        optimize_mode: ``minimize`` or ``maximize``, by which NNI's web UI ranks trials.
    """

    def __init__(self, recipe: str, optimize_mode: str = "minimize") -> None:
        logs.set_up(logging.StreamHandler())
        end_with_server()
        self.experiment = experiment_config()
        os.chdir(self.experiment["trialCodeDirectory"])
        self.recipe = Path(recipe)
        self.optimize_mode = optimize_mode
        self.folder = run_folder(recipe_name(self.recipe))
        self.lock = run_lock(self.folder)
        self._search: TrialSearch | None = None
        self._ended = False

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """The first call of an experiment; checks everything and starts the search."""
        self._call("update_search_space", search_space)

    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> list[dict[str, Any]]:
        """What the next trials do; ``st_callback`` is how NNI takes what comes later."""
        return self._call("request", parameter_id_list, kwargs["st_callback"]) or []

    def receive_trial_result(self, parameter_id: int, parameters: dict[str, Any], value: Any, **kwargs: Any) -> None:
        """A trial's final metric."""
        self._call("receive_trial_result", parameter_id, parameters, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial's end."""
        self._call("trial_end", parameter_id, success)

    def _call(self, method: str, *arguments: Any) -> Any:
        if self._ended:
            return None
        try:
            if self._search is None:
                self._search = self._start()
            answer = getattr(self._search, method)(*arguments)
        except Exception as error:
            self._end_experiment(error)
            raise
        if self._search.finished:
            self.lock.release()
        return answer

    def _start(self) -> TrialSearch:
        self.lock.acquire()
        (self.folder / "error.txt").unlink(missing_ok=True)  # a link goes, what it leads to stays
        from ganc_nni.nnictl.bridge import TrialSearch

        return TrialSearch(self.recipe, self.experiment, self.optimize_mode, self._end_experiment)

    def _end_experiment(self, error: Exception) -> None:
        if self._ended:
            return  # what follows from the first error would hide it
        self._ended = True
        known = isinstance(error, InputError | TrainingError)
        message = str(error) if known else one_line(f"{type(error).__name__}: {error}")
        if self.lock.held:  # else the folder is another's
            with contextlib.suppress(OSError, InputError):  # it may be the disk that has failed
                replace_text(self.folder / "error.txt", f"{message}\n")
            self.lock.release()
        _log.error("%s", message, exc_info=error if not known else None)
        # NNI leaves an experiment whose tuner has failed in RUNNING, unless its dispatcher reports the error; a tuner
        # is given no handle on its dispatcher. isinstance would ask torch for names that it warns of.
        for dispatcher in [each for each in gc.get_objects() if issubclass(type(each), MsgDispatcherBase)]:
            dispatcher.report_error(message)


def experiment_config() -> dict[str, Any]:
    """The experiment's configuration, as NNI hands it to the process of its tuner."""
    encoded = sys.argv[sys.argv.index("--exp_params") + 1]
    return json.loads(base64.b64decode(encoded))
