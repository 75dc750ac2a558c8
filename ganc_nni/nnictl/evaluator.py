"""What the evaluator process holds and does: the sub-generators of a run, scored one at a time."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import write_text
from ganc_nni.core.widths import Widths
from ganc_nni.metrics.evaluator import Evaluator
from ganc_nni.nnictl import fingerprint
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.journal import Evaluation, Journal
from ganc_nni.search.record import search_name
from ganc_nni.stages.candidates import Candidates, candidates_of
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.search import evaluate


class Scorer:
    """Scores sub-generators of a run, and writes each outcome into the journal before it answers.

    Args:
        recipe: Path of the recipe.

    Attributes:
        broken: Why this process should not go on; None while it can.

    Raises:
        InputError: The recipe cannot be used.
    """

    def __init__(self, recipe: Path) -> None:
        self.recipe = recipe
        self.broken: str | None = None
        self._begin()

    def _begin(self) -> None:
        self.run = Run(load_recipe(self.recipe))
        self.pipeline = Pipeline(self.run)
        self.journal = Journal(self.run.folder / "search" / "journal", self.run.space.choices)
        self._weights: dict[str, Any] | None = None
        self._tools: tuple[Candidates, Evaluator, list[Tensor]] | None = None
        self._known: dict[Any, Evaluation] = {}

    def is_over(self) -> bool:
        """Whether the search has ended, well or not."""
        try:
            return self.pipeline.done("search") or (self.run.folder / "error.txt").is_file()
        except (InputError, OSError):  # the run has been taken away
            return True

    def answer(self, widths: Widths, begun: Callable[[float], None]) -> dict[str, Any]:
        """The final metric of a trial, or ``{"error": reason}``.

        Args:
            widths: The widths.
            begun: Told how many seconds it may take, as soon as the weights are there.
        """
        try:
            self._wait_for_weights()
            if (error := self._check(widths)) is not None:
                return {"error": error}
        except TrainingError as error:
            return {"error": str(error)}
        except InputError as error:
            # A machine that cannot work would fail one trial after another faster than the others succeed.
            write_text(self.run.folder / "error.txt", f"{error}\n")
            return {"error": str(error)}
        evaluation = self._known.get(widths)
        if evaluation is None:
            begun(self.run.recipe.search.timeout)
            evaluation = dataclasses.replace(self._evaluate(widths), search=search_name(self.run))
            try:
                self.journal.append(evaluation)
            except (OSError, TrainingError) as error:  # the disk is full
                return {"error": f"{self.journal.folder}: {error}"}
        if evaluation.score is None:
            return {"error": evaluation.message}
        self._known[evaluation.widths] = evaluation
        figures = self.run.budget.figures(widths)
        answer = {
            "default": evaluation.score,
            "macs": figures[f"macs_{self.run.recipe.search.convention}"],
            "params": figures["params"],
            "seconds": evaluation.seconds,
        }
        if "latency_ms" in figures:
            answer["latency_ms"] = figures["latency_ms"]
        return answer

    def _wait_for_weights(self) -> None:
        """Return when the stages before the search are done; forget what was loaded of other ones."""
        if self._weights is not None and self.pipeline.record(self.pipeline.before_search) != self._weights:
            self._begin()
        if self._weights is None:
            fingerprint.check_before_training(self.run)
            self.pipeline.wait_for(self.pipeline.before_search)
            fingerprint.check(self.run)
            self._weights = self.pipeline.record(self.pipeline.before_search)
            self._known = {widths: each for widths, each in self.journal.read().items() if each.score is not None}

    def _check(self, widths: Widths) -> str | None:
        """What is wrong with the widths."""
        choices = self.run.space.choices
        if widths.keys() != choices.keys():
            return f"evaluator: expected the labels {', '.join(choices)}; got {', '.join(widths)}"
        strange = [f"{label}={width}" for label, width in widths.items() if width not in choices[label]]
        return f"evaluator: not in the search space: {', '.join(strange)}" if strange else None

    def _evaluate(self, widths: Widths) -> Evaluation:
        """The outcome, good or bad."""
        try:
            if self._tools is None:
                run = self.run
                self._tools = candidates_of(run), run.evaluator("search"), run.calibration()
            return evaluate(self._tools[0], self._tools[1], widths, self._tools[2], self.run.recipe.search.precision)
        except InputError as error:
            return Evaluation(widths, None, message=str(error))
        except Exception as error:  # memory, or a device, which may not work again in this process
            traceback.print_exc()
            self.broken = f"{type(error).__name__}: {error}".splitlines()[0]
            return Evaluation(widths, None, message=self.broken)
