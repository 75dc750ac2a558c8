"""The tables of horse2zebra.py: on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import common

from ganc_nni.core.io import write_text
from ganc_nni.metrics.bootstrap import Interval
from ganc_nni.metrics.verdict import verdict
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import PEAKS

GOALS = {"within 2.55G": 0.90, "within 1.41G": 0.98}
"""Frechet distances at 256x256 to be reached."""

Rows = list[list[str]]
Sections = list[tuple[str, Sequence[str], Rows]]


def show(
    run: Run,
    scores: Sequence[Mapping[str, Any]],
    stages: Mapping[str, Mapping[str, Any]],
    estimate: Mapping[str, Any],
    untouched: str = "",
) -> None:
    """Print what there is, and write it as ``results.md`` and ``results.json`` into the run's folder.

    Args:
        run: The run.
        scores: Name, costs and scores of each generator.
        stages: Seconds, and what else is known, of each stage by label.
        estimate: Of the full run; empty: none.
        untouched: The name of the untouched inputs among the scores.
    """
    height, width = run.recipe.data.image_size
    sections: Sections = []
    if scores:
        published = (height, width) == (256, 256)
        sections.append((f"Scores at {height}x{width}, lower is better", *_scores(scores, published)))
    if stages:
        sections.append((f"Stages on {run.device.type}", *_stages(stages)))
    if estimate:
        title = "Estimate at {size} on {device}, {precision}".format_map(estimate)
        sections.append((title, *_estimate(estimate)))
    if not sections:
        return
    for section in sections:
        common.show(*section)
    sentences = verdicts(scores, untouched)
    for name, sentence in sentences.items():
        print(f"{name}: {sentence}")
    told = "".join(f"\n- {name}: {sentence}" for name, sentence in sentences.items())
    write_text(run.folder / "results.md", "\n".join(_markdown(*section) for section in sections) + told + "\n")
    content = {
        "size": [height, width],
        "scores": list(scores),
        "verdicts": sentences,
        "stages": stages,
        "estimate": estimate,
    }
    write_text(run.folder / "results.json", json.dumps(content, indent=2) + "\n")


def verdicts(scores: Sequence[Mapping[str, Any]], untouched: str) -> dict[str, str]:
    """Whether each compressed generator is as good as the teacher, a sentence each, by its name."""
    known = {row["name"]: row for row in scores}
    teacher, inputs = known.get("teacher", {}), known.get(untouched, {})
    interval = Interval(teacher["low"], teacher["high"]) if "low" in teacher else None
    reference = (teacher.get("frechet"), interval, inputs.get("frechet"))
    return {
        name: verdict("the distance", False, row["frechet"], *reference).sentence
        for name, row in known.items()
        if name.startswith("within")
    }


def _scores(scores: Sequence[Mapping[str, Any]], published: bool) -> tuple[Sequence[str], Rows]:
    columns = ["pictures", "widths", "published MACs", "parameters", "search split", "test"]
    columns += ["95 % interval", "KID x 1000", "SSIM", "PSNR, dB"]
    rows = [
        [
            row["name"],
            row.get("widths", ""),
            f"{row['macs_published'] / 1e9:.3f}G" if "macs_published" in row else "",
            f"{row['params']:,}" if "params" in row else "",
            f"{row['search']:.3f}" if "search" in row else "",
            f"{row['frechet']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else "",
            f"{1000 * row['kid']:.3f}",
            f"{row['ssim']:.3f}" if "ssim" in row else "",
            f"{row['psnr']:.1f}" if "psnr" in row else "",
        ]
        for row in scores
    ]
    if published:
        columns.append("goal")
        for row, cells in zip(scores, rows, strict=True):
            goal = GOALS.get(row["name"])
            cells.append("" if goal is None else f"{'meets' if row['frechet'] <= goal else 'misses'} {goal:.2f}")
    return columns, rows


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> tuple[Sequence[str], Rows]:
    rows = []
    for label, stage in stages.items():
        steps, seconds = stage.get("steps"), stage["seconds"]
        done = stage.get("done", False)
        peaks = ", ".join(f"{name} {mib:.0f}" for name, mib in stage.get(PEAKS, {}).items())
        each = f"{1000 * seconds / steps:.1f}" if steps and done else ""
        shown = str(steps or "") if done else "not done yet"
        rows.append([label, f"{seconds:.1f}", shown, str(stage.get("batch", "")), each, peaks])
    rows.append(["in all", f"{sum(stage['seconds'] for stage in stages.values()):.1f}", "", "", "", ""])
    return ("stage", "seconds", "steps", "images a step", "ms a step, all in", "peak, MiB"), rows


def _estimate(estimate: Mapping[str, Any]) -> tuple[Sequence[str], Rows]:
    rows = [
        [
            name,
            str(part["steps"]),
            str(part.get("batch", "")),
            f"{1000 * part['seconds_a_step']:.1f}",
            str(part["times"]),
            f"{part['seconds'] / 60:.1f}",
        ]
        for name, part in estimate["parts"].items()
    ]
    rows.append(["in all", "", "", "", "", f"{estimate['seconds'] / 60:.1f}"])
    return ("part", "steps or scores", "images a step", "ms each", "times", "minutes"), rows


def _markdown(title: str, columns: Sequence[str], rows: Rows) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([f"## {title}", "", *lines, ""])
