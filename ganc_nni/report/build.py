"""The page of a run: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ganc_nni.core.io import write_text
from ganc_nni.core.templates import template
from ganc_nni.core.text import times
from ganc_nni.report.charts import Chart, loss_chart, scatter, score_chart
from ganc_nni.report.collect import STAGES, RunReport, Summary, collect

_log = logging.getLogger(__name__)

PAGE = Path("report", "index.html")
"""Where the page is in a run folder."""

_FRONT_ROWS = 50
_PAGE = template("ganc_nni.report", "page.html")


class Bar(NamedTuple):
    """One label's widths; bars and marks in percent of the widest."""

    label: str
    teacher: int | None
    compressed: int
    choices: tuple[int, ...]
    teacher_part: float
    compressed_part: float
    choice_parts: list[float]


class Timing(NamedTuple):
    """One stage's time, its bar in percent from where the run began, and what it has measured."""

    title: str
    time: str
    start: float
    part: float
    figures: str


def write_page(folder: Path, report: RunReport) -> None:
    """Write the page of a run into its folder.

    Raises:
        TrainingError: It cannot be written.
    """
    write_text(folder / PAGE, page(report))


def make_page(folder: Path) -> None:
    """Write the page of a run that is finished; where that fails, it is a warning and the run stays finished."""
    try:
        write_page(folder, collect(folder))
    except Exception as error:  # charts and templates raise whatever they like
        _log.warning("the run is finished, but its report could not be made: %s", error)


def page(report: RunReport) -> str:
    """The whole page."""
    provenance, summary = report.provenance, report.summary
    return _PAGE.render(
        report=report,
        summary=summary,
        tiles=_tiles(summary) if summary else [],
        scatter=_scatter(report),
        front=_front(report),
        other_limits=_other_limits(report),
        bars=_bars(report),
        training=_training(report),
        timings=_timings(report),
        total=duration(sum(each.seconds for each in report.stages.values())),
        environments=_environments(report),
        recipe=provenance.recipe if provenance else "",
        commands=_commands(report),
        unfinished=[
            title
            for stage, title in STAGES.items()
            if stage not in (*report.stages, "segmenter", "pretrain")  # not all runs have these
            and not (stage == "supernet" and "search" in report.stages)  # one that needed none
        ],
        pixelated=bool(report.images) and report.images[0][0].width < 160,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        duration=duration,
    )


def duration(seconds: float) -> str:
    """``41 s``, ``4 min 34 s``, ``1 d 3 h``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def _tiles(summary: Summary) -> list[tuple[str, str, str]]:
    """Figure, what it is, and from what to what."""
    teacher, compressed = summary.teacher, summary.compressed

    def change(before: float, after: float, smaller: str, larger: str) -> tuple[str, str]:
        count, _, words = times(before, after, smaller, larger).partition(" ")
        return count, words

    def fewer(what: str, before: int, after: int) -> tuple[str, str]:
        return change(before, after, f"fewer {what}", f"more {what}")

    before, after = teacher.latency_ms, compressed.latency_ms
    faster = (
        []
        if before is None or after is None
        else [(*change(before, after, "faster", "slower"), f"{before:.1f} → {after:.1f} ms, eager, batch 1")]
    )
    direction = "higher" if summary.higher_is_better else "lower"
    return [
        (*fewer("MACs", teacher.macs_published, compressed.macs_published), "as the papers count them"),
        (*fewer("parameters", teacher.params, compressed.params), f"{compressed.params:,} in all"),
        *faster,
        (
            f"{teacher.score:.3g} → {compressed.score:.3g}",
            summary.metric,
            f"{direction} is better, {summary.test_pictures} test images{_known(summary)}",
        ),
    ]


def _known(summary: Summary) -> str:
    """What else is known of the scores, to follow the number of images."""
    found = f"; 95 % interval {summary.compressed.bounds()}" if summary.compressed.interval is not None else ""
    for name, value in (("untouched input", summary.untouched), ("ground truth", summary.ground_truth)):
        found += f"; {name} {value:.3g}" if value is not None else ""
    return found


def _scatter(report: RunReport) -> Chart | None:
    if report.trials is None or not report.trials.points:
        return None
    provenance = report.provenance
    convention = provenance.convention if provenance else "published"
    budget = provenance.limits.get(f"macs_{convention}") if provenance else None
    best = report.architecture.widths if report.architecture else None
    return scatter(report.trials, best, report.metric, report.higher_is_better, convention, budget)


def _front(report: RunReport) -> list[tuple[str, str, str]]:
    """Widths, MACs and score of the front; evenly thinned out if it is long."""
    front = report.trials.front if report.trials else []
    step = max(1, math.ceil(len(front) / _FRONT_ROWS))
    return [(str(each.widths).replace("_", " "), f"{each.macs:,}", f"{each.score:.4g}") for each in front[::-1][::step]]


def _other_limits(report: RunReport) -> str:
    """The limits of the budget that the chart does not show, in words."""
    if report.provenance is None:
        return ""
    shown = f"macs_{report.provenance.convention}"
    others = {name: value for name, value in report.provenance.limits.items() if name != shown}
    return ", ".join(f"{name} at most {value:,.6g}" for name, value in others.items())


def _bars(report: RunReport) -> list[Bar]:
    architecture = report.architecture
    if architecture is None:
        return []
    teacher = report.teacher_widths
    largest = max(
        *teacher.values(), *architecture.widths.values(), *(max(each) for each in architecture.space.values())
    )

    def part(width: int) -> float:
        return round(100 * width / largest, 2)

    return [
        Bar(
            label,
            teacher.get(label),
            architecture.widths[label],
            choices,
            part(teacher.get(label, 0)),
            part(architecture.widths[label]),
            [part(each) for each in choices],
        )
        for label, choices in architecture.space.items()
    ]


def _training(report: RunReport) -> list[tuple[str, list[Chart]]]:
    """The charts of every stage that was trained."""
    found = []
    for stage, curves in report.curves.items():
        scores = [curve for curve in curves if curve.name.startswith("score/")]
        charts = [score_chart(scores, f"validation: {report.metric}", report.higher_is_better)] if scores else []
        charts += [loss_chart(curve) for curve in curves if curve not in scores]
        if charts:
            found.append((STAGES[stage], charts))
    return found


def _timings(report: RunReport) -> list[Timing]:
    total = sum(each.seconds for each in report.stages.values()) or 1.0
    found, start = [], 0.0
    for stage, record in report.stages.items():
        part = 100 * record.seconds / total
        figures = ", ".join(f"{name} {value:.4g}" for name, value in record.figures.items())
        found.append(Timing(STAGES[stage], duration(record.seconds), round(start, 2), round(part, 2), figures))
        start += part
    return found


def _environments(report: RunReport) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Heads of columns, one for the stages of the same environment; then name and values of every fact."""
    groups: list[tuple[list[str], dict[str, str]]] = []
    for stage, provenance in report.provenances.items():
        for stages, facts in groups:
            if facts == provenance.environment:
                stages.append(STAGES[stage])
                break
        else:
            groups.append(([STAGES[stage]], provenance.environment))
    names = dict.fromkeys(name for _, facts in groups for name in facts)
    heads = ["all stages"] if len(groups) == 1 else [", ".join(stages) for stages, _ in groups]
    return heads, [(name, [facts.get(name, "") for _, facts in groups]) for name in names]


def _commands(report: RunReport) -> list[tuple[str, str]]:
    """What each group of commands is for, and the commands."""
    recipe, run = shlex.quote(f"experiments/{report.name}.recipe.yml"), shlex.quote(f"runs/{report.name}")
    experiment = shlex.quote(f"experiments/{report.name}.yml")
    weights = shlex.quote(f"runs/{report.name}/export/compressed.safetensors")
    environment = report.provenance.environment if report.provenance else {}
    # the recipe's paths already contain the folder
    alone = ["unset GANC_DATA"] if "GANC_DATA" in environment else []
    stages = ["train-teacher", "train-supernet", "search", "finetune", "export"]
    if "segmenter" in report.stages:
        stages.insert(0, "train-segmenter")

    def lines(commands: Iterable[str]) -> str:
        return "\n".join([*alone, *commands])

    groups = [
        ("The whole run, in one process", lines([f"ganc run {recipe}"])),
        ("Stage by stage", lines(f"ganc {stage} {recipe}" for stage in stages)),
        (f"Under NNI's web UI, with {experiment} next to the recipe", lines([f"nnictl create --config {experiment}"])),
        ("This page", f"ganc report {run}"),
    ]
    if report.summary is not None:
        height, width = report.summary.image_size
        use = [
            f"ganc translate --generator {weights} --input IMAGES --output TRANSLATED",
            f"ganc profile --generator {weights} --size {height} {width}",
        ]
        groups.append(("The compressed generator at work", "\n".join(use)))
    return groups
