"""What nnictl starts as the tuner of an experiment.

Light on purpose: NNI gives up on a tuner that has not connected after 10 seconds, and torch alone may take longer to
load. Everything else happens when NNI, connected, sends the search space.
"""

from __future__ import annotations

import base64
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni import NoMoreTrialError
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.tuner import Tuner

from ganc_nni import logs
from ganc_nni.errors import InputError, TrainingError
from ganc_nni.recipe import recipe_name, run_folder

if TYPE_CHECKING:
    from ganc_nni.search.evolution import TrialSearch

_log = logging.getLogger(__name__)


class EvolutionTuner(Tuner):
    """NNI's tuner for a recipe: passes NNI's calls to a :class:`~ganc_nni.search.evolution.TrialSearch`.

    An error in any of them ends the experiment, with its message in NNI's logs and in ``runs/NAME/error.txt``.

    Args:
        recipe: Path of the recipe, relative to ``trialCodeDirectory``.
        optimize_mode: ``minimize`` or ``maximize``, by which NNI's web UI ranks trials.
    """

    def __init__(self, recipe: str, optimize_mode: str = "minimize") -> None:
        logs.set_up(logging.StreamHandler())
        self.experiment = experiment_config()
        os.chdir(self.experiment["trialCodeDirectory"])
        self.recipe = Path(recipe)
        self.optimize_mode = optimize_mode
        self.folder = run_folder(recipe_name(self.recipe))
        (self.folder / "error.txt").unlink(missing_ok=True)
        self._search: TrialSearch | None = None
        self._ended = False

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """The first call of an experiment; checks everything and starts the search."""
        self._call("update_search_space", search_space)

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """What the next trial does."""
        return self._call("generate_parameters", parameter_id)

    def receive_trial_result(self, parameter_id: int, parameters: dict[str, Any], value: Any, **kwargs: Any) -> None:
        """A trial's final metric."""
        self._call("receive_trial_result", parameter_id, parameters, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial's end."""
        self._call("trial_end", parameter_id, success)

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            if self._search is None:
                from ganc_nni.search.evolution import TrialSearch

                self._search = TrialSearch(self.recipe, self.experiment, self.optimize_mode)
            return getattr(self._search, method)(*arguments)
        except NoMoreTrialError:
            raise
        except Exception as error:
            self._end_experiment(error)
            raise

    def _end_experiment(self, error: Exception) -> None:
        if self._ended:
            return  # what follows from the first error would hide it
        self._ended = True
        known = isinstance(error, InputError | TrainingError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "error.txt").write_text(message + "\n", encoding="utf-8")
        _log.error("%s", message, exc_info=not known)
        # NNI leaves an experiment whose tuner has failed in RUNNING, unless its dispatcher reports the error; a tuner
        # is given no handle on its dispatcher.
        for dispatcher in [each for each in gc.get_objects() if isinstance(each, MsgDispatcherBase)]:
            dispatcher.report_error(message)


def experiment_config() -> dict[str, Any]:
    """The experiment's configuration, as NNI hands it to the process of its tuner."""
    encoded = sys.argv[sys.argv.index("--exp_params") + 1]
    return json.loads(base64.b64decode(encoded))
