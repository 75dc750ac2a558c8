"""Which of NNI's trials does what: ids that wait for something to do, and things to do that are given to them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.journal import Evaluation

_log = logging.getLogger(__name__)

Parameters: TypeAlias = dict[str, Any]

Send: TypeAlias = Callable[[int, Parameters], object]
"""Starts the trial of an id."""

STARTS = 3
"""How often a trial is started whose process ends without a word."""


@dataclass(eq=False)
class Task:
    """What a trial does; the same one again if its process is killed.

    Attributes:
        parameters: What the trial is given, and the web UI shows.
        model: The sub-generator to score; None: a stage.
        before: What an earlier search has said of the sub-generator.
        starts: How many trials it has had.
        ended: Whether its outcome is known.
    """

    parameters: Parameters
    model: BudgetedSpace | None = None
    before: Evaluation | None = None
    starts: int = 0
    ended: bool = False


class TrialQueue:
    """NNI asks for trials with ids; they are answered at once or when there is something to do.

    Args:
        changed: Held by whoever calls, and told of changes.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self.changed = changed
        self.tasks: dict[int, Task] = {}
        self.waiting: deque[int] = deque()
        self.again: deque[Task] = deque()
        self._asking: list[int] = []
        self._send: Send | None = None

    def ask(self, ids: list[int], send: Send) -> None:
        """NNI waits with these ids; those that :meth:`answers` has not given are answered through ``send``."""
        self._asking, self._send = ids, send
        self.waiting.extend(ids)

    def answers(self) -> list[Parameters]:
        """What the first of the ids of the last :meth:`ask` do; the others wait on."""
        asked, self._asking = self._asking, []
        return [self.tasks[number].parameters for number in asked if number in self.tasks]

    def give(self, task: Task) -> None:
        """Have the id that has waited longest do this."""
        task.starts += 1
        number = self.waiting.popleft()
        self.tasks[number] = task
        if number not in self._asking and self._send is not None:
            self._send(number, task.parameters)

    def start_again(self, task: Task) -> bool:
        """Have another trial do it; False if it had enough."""
        if task.starts >= STARTS:
            return False
        _log.warning("a trial has ended without a word; another one does %s", task.parameters)
        with self.changed:
            self.again.append(task)
        return True
