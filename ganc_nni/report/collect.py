"""Reads a run folder, in whatever state it is, into one object; what is not there is empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, PositiveInt, ValidationError

from ganc_nni.core.errors import InputError
from ganc_nni.core.files import read_note
from ganc_nni.core.io import read_json
from ganc_nni.core.text import times
from ganc_nni.generators.architecture import Architecture
from ganc_nni.interop import read_generator
from ganc_nni.metrics import METRICS
from ganc_nni.metrics.bootstrap import Interval
from ganc_nni.metrics.verdict import Verdict, verdict
from ganc_nni.recipe.words import all_in_words, from_json
from ganc_nni.report.curves import Curve, read_curves
from ganc_nni.report.trials import Trials, read_trials
from ganc_nni.stages import provenance
from ganc_nni.stages.export import read_summary
from ganc_nni.stages.images import Embedded, embed, embedded_images
from ganc_nni.stages.provenance import Provenance

STAGES = {
    "segmenter": "Segmenter",
    "teacher": "Teacher",
    "pretrain": "Pretraining",
    "supernet": "Supernet",
    "search": "Search",
    "finetune": "Fine-tuning",
    "export": "Export",
}
"""The stages of a run, in order, and how a report calls them."""

_Model = TypeVar("_Model", bound=BaseModel)


class StageRecord(BaseModel):
    """A ``stage.json``; its figures are the extra fields."""

    model_config = ConfigDict(extra="allow")

    key: str
    seconds: FiniteFloat = Field(ge=0)

    @property
    def figures(self) -> dict[str, float]:
        """What the stage has measured, by name."""
        return {name: value for name, value in (self.model_extra or {}).items() if type(value) in (int, float)}


class Measured(BaseModel):
    """What is known of a score; nothing of it in runs of earlier versions."""

    interval: tuple[FiniteFloat, FiniteFloat] | None = None
    ssim: FiniteFloat | None = None
    psnr: FiniteFloat | None = None

    def bounds(self) -> str:
        """The interval in words; empty if there is none."""
        return "" if self.interval is None else f"{self.interval[0]:.4g} to {self.interval[1]:.4g}"


class Network(Measured):
    """What a network costs and scores."""

    macs_published: PositiveInt
    macs_true: PositiveInt
    params: PositiveInt
    score: float
    latency_ms: PositiveFloat | None


class Chosen(Measured):
    """The chosen sub-generator before fine-tuning: its scores on test images, and on those of the search if known."""

    search: float | None
    mean: float
    stdev: float | None


class Summary(BaseModel):
    """The part of ``export/summary.json`` that is shown."""

    metric: str
    higher_is_better: bool = False
    test_pictures: int
    image_size: tuple[int, int]
    networks: dict[str, Network]
    untouched: float | None = None
    against_teacher: bool = False
    ground_truth: float | None = None
    ground_truth_of: str | None = None
    chosen: Chosen | None = None
    remarks: dict[str, str] = {}

    @property
    def teacher(self) -> Network:
        """See :class:`Network`."""
        return self.networks["teacher"]

    @property
    def compressed(self) -> Network:
        """See :class:`Network`."""
        return self.networks["compressed"]

    @property
    def verdict(self) -> Verdict:
        """Whether the compressed generator is as good as its teacher, in a sentence."""
        low_high = self.teacher.interval
        interval = None if low_high is None else Interval(*low_high)
        scores = (self.compressed.score, self.teacher.score)
        return verdict(self.metric, self.higher_is_better, *scores, interval, self.untouched, self.against_teacher)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table that compares both: title, teacher, compressed, ratio."""
        teacher, compressed = self.teacher, self.compressed
        direction = "higher" if self.higher_is_better else "lower"

        def row(title: str, key: str, form: str, smaller: str = "", larger: str = "") -> tuple[str, str, str, str]:
            before, after = getattr(teacher, key), getattr(compressed, key)
            ratio = times(before, after, smaller, larger) if smaller and before and after else ""
            first, second = ("not measured" if value is None else form.format(value) for value in (before, after))
            return title, first, second, ratio

        rows = [
            row("MACs (published convention)", "macs_published", "{:,}", "less", "more"),
            row("MACs (true)", "macs_true", "{:,}", "less", "more"),
            row("parameters", "params", "{:,}", "less", "more"),
            row(f"{self.metric} ({direction} is better)", "score", "{:.4g}"),
        ]
        if teacher.interval is not None or compressed.interval is not None:
            rows.append(("  95 % interval", teacher.bounds(), compressed.bounds(), ""))
        if self.chosen is not None:
            spread = f" ± {self.chosen.stdev:.2g}" if self.chosen.stdev is not None else ""
            if self.chosen.search is not None:
                rows.append(("  as searched, search split", "", f"{self.chosen.search:.4g}", ""))
            rows.append(("  as searched, test split", "", f"{self.chosen.mean:.4g}{spread}", ""))
            if self.chosen.interval is not None:
                rows.append(("  as searched, 95 % interval", "", self.chosen.bounds(), ""))
        metric = METRICS.get(self.metric)  # None: of other weights
        source = self.ground_truth_of or ("search split" if metric is None else metric.real_images)
        for title, value in (("untouched input", self.untouched), (f"ground truth, {source}", self.ground_truth)):
            if value is not None:
                rows.append((f"  {title}", f"{value:.4g}", f"{value:.4g}", ""))
        rows += self._fidelity("ssim", "SSIM to the teacher") + self._fidelity("psnr", "PSNR to the teacher (dB)")
        rows.append(row("latency, eager, batch 1 (ms)", "latency_ms", "{:.2f}", "faster", "slower"))
        return rows

    def _fidelity(self, key: Literal["ssim", "psnr"], title: str) -> list[tuple[str, str, str, str]]:
        """How near the images are to the teacher's; nothing if it is not known."""

        def shown(measured: Measured) -> str:
            value: float | None = getattr(measured, key)
            return "infinite" if value is None else f"{value:.4g}"  # dB of equal images

        rows = [(title, "", shown(self.compressed), "")] if self.compressed.ssim is not None else []
        if self.chosen is not None and self.chosen.ssim is not None:
            rows.append(("  as searched, test split", "", shown(self.chosen), ""))
        return rows


@dataclass(frozen=True)
class RunReport:
    """A run as its folder tells it.

    Attributes:
        name: The run's.
        stages: Those that are finished, in order.
        provenances: What they left about themselves; runs of earlier versions have none.
        summary: Teacher next to compressed; None before the export.
        architecture: The chosen sub-generator; None before the search.
        teacher_widths: By label; empty if not known.
        trials: What the search has tried; None before it.
        curves: Losses and scores of the stages that have been trained.
        images: Test images, each in several versions.
        montage: All test images in one, of runs of earlier versions.
    """

    name: str
    stages: dict[str, StageRecord]
    provenances: dict[str, Provenance]
    summary: Summary | None
    architecture: Architecture | None
    teacher_widths: Mapping[str, int]
    trials: Trials | None
    curves: dict[str, list[Curve]]
    images: list[list[Embedded]]
    montage: Embedded | None

    @property
    def provenance(self) -> Provenance | None:
        """Of the last stage that has one: the recipe may have changed before it."""
        return list(self.provenances.values())[-1] if self.provenances else None

    @property
    def metric(self) -> str:
        """What scores may be called."""
        if self.summary is not None:
            return self.summary.metric
        if self.architecture is not None and self.architecture.metrics:
            return next(iter(self.architecture.metrics)).partition("/")[0]
        return "score" if self.provenance is None else self.provenance.metric

    @property
    def higher_is_better(self) -> bool:
        """The direction of scores."""
        known = self.provenance or self.summary
        return False if known is None else known.higher_is_better


def collect(folder: Path) -> RunReport:
    """Read a run folder.

    Raises:
        InputError: No stage is finished there, or a file is damaged; the message names it.
    """
    stages = _of_stages(folder, "stage.json", StageRecord)
    if not stages:
        failure = read_note(folder / "error.txt")
        why = f"; the run ended with: {failure}" if failure else ""
        raise InputError(
            f"{folder}: no export/summary.json and no other finished stage there; expected the folder of a run{why}"
        )
    provenances = {
        stage: found for stage, found in _of_stages(folder, provenance.FILE, Provenance).items() if stage in stages
    }
    last = list(provenances.values())[-1] if provenances else None
    summary = read_comparison(folder)
    higher = last or summary
    architecture, export = folder / "architecture.json", folder / "export"
    image = export / "picture.png"
    images = embedded_images(export / "pictures")
    return RunReport(
        name=folder.resolve().name,
        stages=stages,
        provenances=provenances,
        summary=summary,
        architecture=Architecture.load(architecture) if architecture.is_file() else None,
        teacher_widths=_teacher_widths(folder, last),
        trials=read_trials(
            folder / "search" / "trials.csv",
            "published" if last is None else last.convention,
            higher is not None and higher.higher_is_better,
        ),
        curves={stage: read_curves(folder / stage / "tensorboard") for stage in STAGES},
        images=images,
        montage=embed("montage", image, 1200) if image.is_file() and not images else None,
    )


def read_comparison(folder: Path) -> Summary | None:
    """The comparison of a run's export; None if there is none."""
    content, path = read_summary(folder), folder / "export" / "summary.json"
    if content == {}:
        return None
    summary = _checked(path, content, Summary)
    if not {"teacher", "compressed"} <= set(summary.networks):
        raise InputError(f"{path}: networks: expected teacher and compressed; remove the file and export again")
    return summary


def _of_stages(folder: Path, name: str, model: type[_Model]) -> dict[str, _Model]:
    found = {stage: _read(folder / stage / name, model) for stage in STAGES}
    return {stage: each for stage, each in found.items() if each is not None}


def _read(path: Path, model: type[_Model]) -> _Model | None:
    """A JSON file; None if there is none."""
    return _checked(path, read_json(path), model) if path.is_file() else None


def _checked(path: Path, content: object, model: type[_Model]) -> _Model:
    try:
        return from_json(model, content)
    except ValidationError as error:
        told = all_in_words(model, error)[0]
        raise InputError(f"{path}: {told}; remove the file and run the stage again") from None


def _teacher_widths(folder: Path, last: Provenance | None) -> Mapping[str, int]:
    if last is not None:
        return last.teacher_widths
    weights = folder / "teacher" / "teacher.safetensors"
    return read_generator(weights).widths if weights.is_file() else {}
