"""The last stage: the compressed generator as files that need none of the machinery that made it."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from ganc_nni.core.errors import CannotWrite
from ganc_nni.core.io import load_into, load_weights, read_json, save_weights, write_atomically, write_text
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.data import Split, as_rgb
from ganc_nni.generators.architecture import Architecture
from ganc_nni.metrics.evaluator import GeneratedImages
from ganc_nni.metrics.verdict import verdict
from ganc_nni.run import Run
from ganc_nni.stages.deploy import deploy_run
from ganc_nni.stages.held_out import held_out_scores
from ganc_nni.stages.images import save_images
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.training.loop import Report

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


def export(run: Run, report: Report | None = None) -> dict[str, float]:
    """Write architecture, weights, image and summary of the compressed generator; returns figures of the test set.

    Leaves in ``export/``: ``architecture.json``, ``compressed.pth``, ``compressed.safetensors`` (its metadata holds
    the architecture), ``compressed.onnx`` with ``files.json``, ``picture.png`` and ``summary.json``. Once weights and
    scores are there the summary is always written; a step that fails is left out, with a remark there.
    """
    folder = run.folder / "export"
    architecture = Architecture.load(run.folder / "architecture.json")
    source = run.folder / "finetune" / "compressed.safetensors"
    compressed = architecture.network()
    load_into(compressed, load_weights(source), source)
    networks = {"teacher": run.load_teacher().to(run.device), "compressed": compressed.to(run.device).eval()}

    evaluator, teacher = run.evaluator("test"), GeneratedImages(networks["teacher"])
    results = {"teacher": evaluator.result(teacher), "compressed": evaluator.result(networks["compressed"], teacher)}
    compressed_score = results["compressed"].score
    metrics = {**architecture.metrics, f"{evaluator.metric_name}/test": compressed_score}
    architecture = architecture.model_copy(update={"metrics": metrics})
    architecture.save(folder / "architecture.json")
    save_weights(folder / "compressed.pth", compressed.state_dict())
    metadata = {"architecture": architecture.model_dump_json()}
    save_weights(folder / "compressed.safetensors", compressed.state_dict(), metadata)

    steps = _Steps()
    for name, each in (steps.run("files for other runtimes", lambda: deploy_run(run)) or {}).items():
        if "remark" in each:
            steps.remarks[name] = each["remark"]

    costs = {"teacher": run.teacher_cost, "compressed": run.student_cost.at(architecture.widths)}
    size = (1, run.recipe.data.in_channels, *run.recipe.data.image_size)

    def timed(network: nn.Module) -> float:
        return latency_ms(network, torch.zeros(size, device=run.device))

    rows = {
        name: {
            "macs_published": costs[name].macs_published,
            "macs_true": costs[name].macs_true,
            "params": costs[name].params,
            "score": results[name].score,
            **results[name].figures(),
            "latency_ms": steps.run(f"latency of {name}", partial(timed, network)),
        }
        for name, network in networks.items()
    }
    chosen = steps.run(
        "scores of the chosen sub-generator", lambda: held_out_scores(run, architecture, evaluator, teacher)
    )
    untouched = steps.run("score of the untouched input", evaluator.untouched)
    ground_truth = (
        steps.run("score of the ground truth", lambda: evaluator.ground_truth(run.data.search))
        if run.data.test.paired
        else None
    )
    against_teacher = run.recipe.data.layout == "inputs"
    judged = verdict(
        evaluator.metric_name,
        run.metric.higher_is_better,
        compressed_score,
        results["teacher"].score,
        results["teacher"].interval,
        untouched,
        against_teacher,
    )
    steps.run("comparison image", lambda: draw_comparison(run.data.test, networks, run.device, folder / "picture.png"))
    steps.run("pictures", lambda: save_images(run.data.test, networks, run.device, folder / "pictures"))
    summary = {
        "metric": evaluator.metric_name,
        "higher_is_better": run.metric.higher_is_better,
        "test_pictures": results["compressed"].images,
        "image_size": size[2:],
        "networks": rows,
        "untouched": untouched,
        "ground_truth": ground_truth,
        "ground_truth_of": run.metric.real_images,
        "against_teacher": against_teacher,
        "verdict": judged.sentence,
        "chosen": chosen
        and {
            "config_str": architecture.config_str,
            "search": architecture.metrics.get(f"{evaluator.metric_name}/search"),
            "test": chosen.first.score,
            **chosen.first.figures(),
            "repeats": chosen.scores,
            "mean": statistics.fmean(chosen.scores),
            "stdev": statistics.stdev(chosen.scores) if len(chosen.scores) > 1 else None,
        },
        "remarks": steps.remarks,
    }
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    if steps.disk is not None:  # what is missing is made by the next call
        raise steps.disk
    _log.info("export: %s", judged.sentence)
    interval = results["compressed"].interval
    figures = {
        "score": compressed_score,
        "score_low": interval and interval.low,
        "score_high": interval and interval.high,
        "teacher": results["teacher"].score,
        "untouched": untouched,
        "ground_truth": ground_truth,
        "ssim": rows["compressed"]["ssim"],
        "psnr": rows["compressed"]["psnr"],
        "images": float(results["compressed"].images),
    }
    return {name: value for name, value in figures.items() if value is not None}


class _Steps:
    """The steps of an export that may fail without the others.

    Attributes:
        remarks: Why a step or a file is missing, or what is to be known of it, by its name.
        disk: The first failure of the disk; None: there was none.
    """

    def __init__(self) -> None:
        self.remarks: dict[str, str] = {}
        self.disk: CannotWrite | None = None

    def run(self, name: str, step: Callable[[], _Result]) -> _Result | None:
        """What the step returns; None where it fails."""
        try:
            return step()
        except Exception as error:
            self.disk = self.disk or (error if isinstance(error, CannotWrite) else None)
            reason = " ".join(f"{error}".split())[:400] or type(error).__name__
            if is_out_of_memory(error):
                reason = f"out of memory ({reason[:160]}); lower data.image_size, or end other programs"
            self.remarks[name] = f"left out: {reason}"
            _log.warning("export goes on without %s: %s", name, reason)
            return None


def renew_remarks(folder: Path, made: Mapping[str, Mapping[str, Any]]) -> None:
    """Bring the remarks of ``export/summary.json`` up to date after files have been made anew."""
    summary = read_summary(folder.parent)
    before = summary.get("remarks")
    if not isinstance(before, dict):
        return
    names = {"files for other runtimes", *made}
    remarks = {name: text for name, text in before.items() if name not in names}
    remarks |= {name: each["remark"] for name, each in made.items() if "remark" in each}
    if remarks != before:
        write_text(folder / "summary.json", json.dumps({**summary, "remarks": remarks}, indent=2) + "\n")


@torch.inference_mode()
def latency_ms(network: nn.Module, x: Tensor, repeats: int = 20, warm_up: int = 3) -> float:
    """Median time of a forward pass in eager PyTorch, milliseconds."""
    times = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        network(x)
        if x.is_cuda:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[warm_up:])


@torch.inference_mode()
def draw_comparison(
    split: Split, networks: Mapping[str, nn.Module], device: torch.device, path: Path, n_rows: int = 4
) -> None:
    """An image of test images, one a row: input, the output of each network, and the truth where there is one."""
    picks = split.spread(n_rows)
    n_rows = len(picks)
    sources = torch.stack([split.sources[index] for index in picks])
    columns = {
        "input": as_rgb(sources),
        **{name: network(sources.to(device)).cpu() for name, network in networks.items()},
    }
    if split.paired:
        columns["truth"] = torch.stack([split.targets[index] for index in picks])
    height, width = sources.shape[-2:]
    figure, axes = plt.subplots(
        n_rows, len(columns), figsize=(2 * len(columns), 2 * n_rows * height / width + 0.3), squeeze=False, dpi=128
    )
    for column, (title, images) in enumerate(columns.items()):
        axes[0][column].set_title(title)
        for row in range(n_rows):
            axes[row][column].imshow((images[row].expand(3, -1, -1).permute(1, 2, 0) + 1) / 2)
            axes[row][column].axis("off")
    figure.tight_layout(pad=0.3)
    write_atomically(path, lambda temporary: figure.savefig(temporary))
    plt.close(figure)


def read_summary(run_folder: Path) -> dict[str, Any]:
    """What :func:`export` left of the comparison; empty if there is none.

    Raises:
        InputError: It is damaged.
    """
    path = run_folder / "export" / "summary.json"
    return read_json(path) if path.is_file() else {}


EXPORT = Stage(
    name="export",
    run=export,
    reads=Reads(("search.repeats",), ("train", "search", "test")),
    outputs=("architecture.json", "compressed.safetensors", "summary.json"),
    renewed=True,
)
