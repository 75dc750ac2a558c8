"""The stages of a run: in which order, which are done, and what each depends on."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from ganc_nni.core.distributed import by_the_first, is_first, processes
from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.files import read_note, remove_half_written
from ganc_nni.core.io import read_json, write_text
from ganc_nni.core.lock import run_lock, stage_lock
from ganc_nni.run import Run
from ganc_nni.stages.continuing import begin_from_shorter
from ganc_nni.stages.export import EXPORT
from ganc_nni.stages.finetune import FINETUNE
from ganc_nni.stages.inputs import FILE as INPUTS
from ganc_nni.stages.inputs import Inputs, Snapshot, in_short
from ganc_nni.stages.memory import watch_stage
from ganc_nni.stages.pretrain import PRETRAIN
from ganc_nni.stages.provenance import write_provenance
from ganc_nni.stages.search import SEARCH
from ganc_nni.stages.segmenter import SEGMENTER
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.stages.supernet import SUPERNET
from ganc_nni.stages.teacher import TEACHER
from ganc_nni.training.checkpointing import PREVIOUS
from ganc_nni.training.loop import Report

_log = logging.getLogger(__name__)

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (SEGMENTER, TEACHER, PRETRAIN, SUPERNET, SEARCH, FINETUNE, EXPORT)
}
"""All stages by name, in order."""

PEAKS = "peak_memory_mib"
"""In a ``stage.json``: the most memory that the stage has needed."""


class Pipeline:
    """Runs the stages of a recipe that are not done yet."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._inputs: dict[str, Inputs] = {}

    @cached_property
    def _snapshot(self) -> Snapshot:
        return Snapshot(self.run)

    def key(self, stage: str) -> str:
        """A hash of all that the stage's outcome depends on, see :meth:`inputs`."""
        return self.inputs(stage).key

    def inputs(self, stage: str) -> Inputs:
        """All that the stage's outcome depends on, as this object has found it first."""
        if stage not in self._inputs:
            self._inputs[stage] = self._read(stage, self._snapshot)
        return self._inputs[stage]

    def _read(self, stage: str, snapshot: Snapshot) -> Inputs:
        return snapshot.inputs(self._read_before(stage), STAGES[stage].reads)

    def _read_before(self, stage: str) -> list[Reads]:
        """What the stages before this one read."""
        return [STAGES[name].reads for name in self.stages(stage)[:-1]]

    def stages(self, last: str) -> list[str]:
        """What has to be done for the stage ``last``, in order, that stage included.

        Raises:
            InputError: The recipe does not let that stage be made.
        """
        recipe = self.run.recipe
        if (refusal := STAGES[last].refusal(recipe)) is not None:
            raise InputError(refusal)
        wanted = [name for name, stage in STAGES.items() if name == last or stage.needed(recipe)]
        return wanted[: wanted.index(last) + 1]

    @property
    def before_search(self) -> str:
        """The last stage before the search, which leaves the weights that it scores, or reconstructs them from."""
        return self.stages("search")[-2]

    def done(self, stage: str) -> bool:
        """Whether the stage's output is there and fits the recipe."""
        made = STAGES[stage]
        if made.renewed and not all((self.run.folder / stage / name).is_file() for name in made.outputs):
            return False  # a damaged one was removed
        return self.record(stage).get("key") == self.key(stage)

    def record(self, stage: str) -> dict[str, Any]:
        """The stage's ``stage.json``; empty if there is none."""
        path = self.run.folder / stage / "stage.json"
        return read_json(path) if path.is_file() else {}

    def figures(self, stage: str) -> dict[str, float]:
        """What a finished stage has measured of its outcome, by name."""
        return {key: value for key, value in self.record(stage).items() if key not in ("key", "seconds", PEAKS)}

    def prepare(self, stage: str) -> None:
        """Make the stage's folder ready, with what an earlier run of the same recipe left in it.

        What belongs to another recipe is moved aside, never deleted, and comes back when its recipe does. Scores of
        sub-generators stay good for any search of the same supernet in the same precision.

        Raises:
            InputError: The weights of an earlier stage are not what that stage has written.
        """
        self._refuse_damaged_weights(stage)
        folder, key = self.run.folder / stage, self._folder_key(stage)
        begun = folder / "begun.txt"
        if (why := self._made_of_other(stage)) is not None:
            _log.info("stage %s is made again: %s", stage, why)
        if folder.is_dir() and (old := _begun(begun)) != key:
            checkpoint = self.run.recipe.teacher.checkpoint
            if checkpoint is not None and checkpoint.absolute().is_relative_to(folder.absolute()):
                raise InputError(
                    f"teacher.checkpoint: {checkpoint} is in the folder of stage {stage}, which has to be made again; "
                    "copy it, with helpers.safetensors, to a folder teacher elsewhere and name the copy"
                )
            aside = _aside(folder, old)
            while aside.exists():
                aside = aside.with_name(f"{aside.name}~")
            folder.rename(aside)
            _log.info("what was there of stage %s is now in %s", stage, aside)
        if not folder.is_dir() and _aside(folder, key).is_dir():
            _aside(folder, key).rename(folder)
            _log.info("%s: what an earlier run of the same recipe has left is back", folder)
        elif not folder.is_dir():
            others = sorted(self.run.folder.glob(f"{stage}.*"))
            begin_from_shorter(STAGES[stage], self.run.recipe, self.inputs(stage), folder, others)
        write_text(begun, key)
        if not (folder / "stage.json").is_file():  # else the inputs there are those of what is finished
            self.inputs(stage).save(folder / INPUTS, self.key(stage))

    def _refuse_damaged_weights(self, stage: str) -> None:
        for earlier in self.stages(stage)[:-1]:
            folder = self.run.folder / earlier
            saved = Inputs.load(folder / INPUTS, self.record(earlier).get("key"))
            made = {} if saved is None else {folder / name: digest for name, digest in saved.made.items()}
            for path in filter(Path.is_file, made):
                if self.run.hashes.of([path]) != [made[path]]:
                    raise InputError(
                        f"{path}: is not what stage {earlier} has written, its SHA-256 is another; restore it, or "
                        f"remove {folder} to make it again (teacher.checkpoint takes a teacher of yours)"
                    )

    def _made_of_other(self, stage: str) -> str | None:
        """What the stage's folder was made of that is other now, in one line; None if it is the same, or empty."""
        folder, finished = self.run.folder / stage, self.record(stage).get("key")
        if not folder.is_dir() or finished == self.key(stage):
            return None
        before = Inputs.load(folder / INPUTS, finished)
        if before is not None:
            return in_short(self.inputs(stage).changes(before)) or None
        if finished is None and not (folder / "begun.txt").is_file():
            return None
        return "an earlier version has made it, which did not note the content of what it read"

    def _folder_key(self, stage: str) -> str:
        """What the content of a stage's folder belongs to."""
        keeps = STAGES[stage].kept
        if keeps is None:
            return self.key(stage)
        kept = keeps(self.run.recipe)
        found = self._snapshot.inputs(self._read_before(stage), kept.reads)
        return hashlib.sha256(kept.pattern.format(found.key).encode()).hexdigest()

    def resumable(self) -> bool:
        """Whether an earlier search of the same supernet has left evaluations."""
        folder, key = self.run.folder / "search", self._folder_key("search")
        begun = folder / "begun.txt"
        own = folder if _begun(begun) == key else _aside(folder, key)
        return any((own / name).exists() for name in ("journal", "trials.csv"))

    def finish(
        self, stage: str, figures: dict[str, float], seconds: float, peaks: dict[str, float] | None = None
    ) -> None:
        """Mark the stage as done; ``peaks`` is the memory that it has needed, MiB."""
        self._refuse_changes(stage, "while it was made")
        folder, key = self.run.folder / stage, self.key(stage)
        record = {"key": key, "seconds": round(seconds, 1), **figures}
        if peaks is not None:
            record[PEAKS] = peaks
        write_provenance(self.run, folder)
        outputs = (folder / name for name in STAGES[stage].outputs)
        weights = sorted(path for path in outputs if path.suffix == ".safetensors" and path.is_file())
        made = dict(zip((path.name for path in weights), self.run.hashes.of(weights), strict=True))
        self.inputs(stage).save(folder / INPUTS, key, made)
        write_text(folder / "stage.json", json.dumps(record, indent=2) + "\n")
        if is_first():
            (folder / PREVIOUS).unlink(missing_ok=True)  # a longer training goes on from last.ckpt

    def _refuse_changes(self, stage: str, since: str) -> None:
        """Compare what a stage reads now with what it was when its key was taken.

        Raises:
            TrainingError: It is not the same; what was made of it will not be gone on with.
        """

        def changes() -> str:
            return in_short(self._read(stage, Snapshot.now(self.run)).changes(self.inputs(stage)))

        if found := by_the_first(changes):
            begun = self.run.folder / stage / "begun.txt"
            if begun.is_file():
                write_text(begun, "changed")
            raise TrainingError(
                f"stage {stage}: what it reads has changed {since}: {found}; call again to make it of what is there now"
            )

    def run_stage(self, stage: str, report: Report | None = None) -> dict[str, Any]:
        """Run one stage unless it is done; returns its ``stage.json``."""
        if not self._all_done(stage):
            if processes() > 1 and not STAGES[stage].shared:
                shared = ", ".join(each.name for each in STAGES.values() if each.shared)
                raise InputError(
                    f"stage {stage}: is not done, and only {shared} are for several processes; first make "
                    "it by one, without torchrun"
                )
            with stage_lock(self.run.folder) if is_first() else nullcontext():
                self._run_stage(stage, report)
        return self.record(stage)

    def _all_done(self, stage: str) -> bool:
        """The same for all processes that train together."""
        return by_the_first(lambda: self.done(stage))

    def _run_stage(self, stage: str, report: Report | None) -> None:
        if not self._all_done(stage):  # else another process has made it while this one waited
            by_the_first(lambda: self.prepare(stage))
        if not self._all_done(stage):
            self._refuse_changes(stage, "since this command began")
            start = time.perf_counter()
            with watch_stage(STAGES[stage], self.run.recipe) as peaks:
                figures = STAGES[stage].run(self.run, report)
            self.finish(stage, figures, time.perf_counter() - start, peaks)

    def run_until(self, last: str) -> None:
        """Run every stage up to ``last`` that is not done.

        Raises:
            InputError: Another process works in the run folder.
        """
        names = self.stages(last)
        if all(self._all_done(stage) for stage in names):
            return
        with run_lock(self.run.folder) if is_first() else nullcontext():
            if is_first():
                for stage in names:
                    remove_half_written(self.run.folder / stage)
            for stage in names:
                self.run_stage(stage)

    def wait_for(self, stage: str, poll_seconds: float = 0.5) -> None:
        """Wait until another process has finished the stage.

        Raises:
            TrainingError: The run has been given up meanwhile; the message is the one in ``error.txt``.
        """
        failed = self.run.folder / "error.txt"
        while not self.done(stage):
            if failed.is_file():
                raise TrainingError(f"gave up waiting for stage {stage}: {read_note(failed)}")
            time.sleep(poll_seconds)


def _begun(path: Path) -> str:
    """The key in a ``begun.txt``; a word for anything else, since folders are named by it."""
    key = read_note(path)
    return key if re.fullmatch(r"[0-9a-f]{8,64}", key) else "unknown"


def _aside(folder: Path, key: str) -> Path:
    return folder.with_name(f"{folder.name}.{key[:12]}")
