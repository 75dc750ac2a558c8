"""What a candidate of the search costs: its own forward passes, in process, under nnictl, and the straightforward way.

The straightforward way is a process for each candidate, as a trial is that calls pytorch-fid: load torch and the
supernet, slice the candidate out, read the images, load pytorch-fid's Inception and the real set's statistics, and
take pytorch-fid's distance with its matrix square root. All ways score the same supernet on the same image files and
must come to the same score. Supernet and Inception have random weights, which times do not depend on. The first three
take turns; nnictl comes after them.
"""

from __future__ import annotations

from common import Stopwatch, published, quiet, show

# isort: split
import argparse
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
import yaml
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance
from pytorch_fid.inception import FID_WEIGHTS_URL, InceptionV3
from torch import Tensor
from torchvision.models import inception_v3

from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.core.widths import Widths
from ganc_nni.data.transforms import to_image
from ganc_nni.generators import Generator
from ganc_nni.metrics import FeatureExtractor, Images, build_extractor, extract_features
from ganc_nni.metrics.evaluator import Evaluator
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.affordable_space import build_space
from ganc_nni.search.record import SearchRecord
from ganc_nni.stages.candidates import of_supernet
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.search import evaluate
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate
from ganc_nni.training.gan import initialise

LIMIT, STRAIGHT, OVERHEAD = 1.10, 3.0, 2.0
"""Goals: ours at most so many times its forward passes, straightforward at least so many times ours, seconds a trial"""
INCEPTION = Path("hub", "checkpoints", FID_WEIGHTS_URL.rsplit("/", 1)[-1])
"""Where pytorch-fid finds weights instead of downloading them, below TORCH_HOME."""
REAL = 300
"""Images of the target domain."""


def main() -> None:
    """Measure and print."""
    options = _options()
    quiet()
    if options.only:
        print(
            straightforward(
                Run(load_recipe(Path("experiments", "search.recipe.yml"))), Widths(json.loads(options.only))
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["GANC_DATA"] = folder
        run = prepared(options)
        ours, plain = in_process(run, options)
        if options.trials:
            trial = under_nnictl(options, run)
            verdict = "meets" if trial - ours <= OVERHEAD else "misses"
            rows = [
                ("in process", f"{ours:.2f}", f"{3600 / ours:.0f}", ""),
                ("nnictl, a trial and worker", f"{trial:.2f}", f"{options.concurrency * 3600 / trial:.0f}",
                 f"{trial - ours:+.2f} s ({verdict} {OVERHEAD:+.0f} s)"),
                ("straightforward", f"{plain:.2f}", f"{3600 / plain:.0f}", ""),
            ]  # fmt: skip
            show(f"{options.trials} trials, {options.concurrency} at once", ("", "seconds", "an hour", "to ours"), rows)


def prepared(options: argparse.Namespace) -> Run:
    """A run whose supernet is ready, in the current folder: the published student on drawn images in files."""
    torch.manual_seed(options.seed)
    drawn = published(tuple(options.size), images=8)
    for name, count in (("trainA", options.pictures + 1), ("trainB", REAL + 1), ("testA", 16), ("testB", 16)):
        Path("data", name).mkdir(parents=True)
        side = drawn.data.still.sources if name.endswith("A") else drawn.data.still.targets
        for number in range(count):
            noise = torch.randint(-8, 9, (3, *options.size)) / 128
            to_image(side[number % 3] + noise).save(Path("data", name, f"{number:04}.png"))
    Path("search.txt").write_text("".join(f"{number:04}.png\n" for number in range(options.pictures)))
    Path("real.txt").write_text("".join(f"{number:04}.png\n" for number in range(REAL)))
    metric: dict[str, Any] = {"name": "frechet_random"}
    if options.dims:
        inception = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        save_weights(INCEPTION, inception.state_dict())
        metric = {"name": "fid", "dims": options.dims, "weights": str(INCEPTION)}
    Path("space.json").write_text(drawn.recipe.student.space.read_text())
    recipe = {
        "device": "cpu",
        "data": {"layout": "unpaired", "root": "data", "image_size": options.size, "cache": True}
        | {"search_list": ["search.txt", "real.txt"]},
        "teacher": {"checkpoint": None},
        "student": {"space": "space.json", "n_blocks": drawn.recipe.student.n_blocks},
        "metric": {**metric, "batch_size": options.batch_size},
        "search": {"budget": options.budget * math.prod(options.size), "evaluations": max(options.trials, 40)},
    }
    Path("experiments").mkdir()
    Path("experiments", "search.recipe.yml").write_text(yaml.safe_dump(recipe))
    run = Run(load_recipe(Path("experiments", "search.recipe.yml")))
    supernet = make_supernet(run.new_space())
    initialise(supernet)
    pipeline = Pipeline(run)
    for stage in ("teacher", "supernet"):
        pipeline.prepare(stage)
        save_weights(run.supernet_weights, supernet.state_dict())
        pipeline.finish(stage, {"score": 0.0}, 0.0)
    return run


def in_process(run: Run, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds a candidate in process and the straightforward way, after a table of all three."""
    supernet, evaluator, extractor = run.load_supernet(), run.evaluator("search"), build_extractor(run.recipe.metric)
    record, watch = SearchRecord(run, evaluator.metric_name), Stopwatch()
    mu, sigma = _moments(extractor, run.data.search.targets, options.batch_size)
    np.savez("real.npz", mu=mu, sigma=sigma)
    space, state = build_space(run.budget), np.random.RandomState(options.seed)
    for widths in [space.random(random_state=state).widths for _ in range(options.candidates + 1)]:
        watch.start()
        evaluation = evaluate(of_supernet(supernet), evaluator, widths)
        record.add(evaluation)
        watch.stop("in process")
        _forwards(supernet, evaluator, extractor, widths, watch)
        watch.start()
        command = [sys.executable, "-W", "ignore", __file__, "--only", json.dumps(dict(widths))]
        environment = {**os.environ, "TORCH_HOME": str(Path.cwd())}
        printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        expected = float(printed.split()[-1])
        watch.stop("straightforward")
        if evaluation.score is None or not math.isclose(evaluation.score, expected, rel_tol=1e-3):
            raise RuntimeError(f"{widths} scores {evaluation.score}, the straightforward way {expected}")
    seconds = {name: np.array(times[1:]) for name, times in watch.times.items()}
    rows = []
    for name, times in seconds.items():
        elapsed, cpu = np.median(times, axis=0)
        ratio = np.median(times / seconds["in process"], axis=0)
        own = (f"{cpu:.2f}", f"{ratio[1]:.2f}") if name != "straightforward" else ("", "")  # that of another process
        rows.append((name, f"{elapsed:.2f}", f"{3600 / elapsed:.0f}", own[0], f"{ratio[0]:.2f}", own[1]))
    columns = ("medians", "seconds", "an hour", "CPU seconds", "this / in process", "in CPU seconds")
    alone = 1 / np.median(seconds["its forward passes"] / seconds["in process"], axis=0)[1]
    times_faster = np.median(seconds["straightforward"] / seconds["in process"], axis=0)[0]
    height, width = options.size
    show(
        f"one candidate, {options.pictures} images of {height}x{width} in batches of {options.batch_size}, "
        f"{evaluator.metric_name} {extractor.dims}-d\n"
        f"in process takes {alone:.3f} of its forward passes ({'meets' if alone <= LIMIT else 'misses'} {LIMIT:.2f}); "
        f"straightforward {times_faster:.1f} times as long ({'meets' if times_faster >= STRAIGHT else 'misses'} "
        f"{STRAIGHT:.0f})",
        columns,
        rows,
    )
    elapsed = {name: float(np.median(times, axis=0)[0]) for name, times in seconds.items()}
    return elapsed["in process"], elapsed["straightforward"]


@torch.inference_mode()
def _forwards(
    supernet: Generator, evaluator: Evaluator, extractor: FeatureExtractor, widths: Widths, watch: Stopwatch
) -> None:
    """The candidate's generator and feature network, and nothing else."""
    activate(supernet, widths)
    batches, outputs = list(evaluator._sources()), []
    watch.start()
    for batch in batches:
        outputs.append(supernet(batch))
    for output in outputs:
        extractor(output)
    watch.stop("its forward passes")


@torch.inference_mode()
def straightforward(run: Run, widths: Widths) -> float:
    """A candidate's score as a script would take it that starts from files."""
    supernet = make_supernet(run.new_space())
    supernet.load_state_dict(load_weights(run.supernet_weights))
    network = supernet.eval().freeze(dict(widths))
    features, metric = [], run.recipe.metric
    extractor = build_extractor(metric) if metric.name != "fid" else _pytorch_fid(metric.dims)
    paths = sorted(Path("data", "trainA").glob("*.png"))[: len(run.data.search.sources)]
    for start in range(0, len(paths), metric.batch_size):
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths[start : start + metric.batch_size]]
        batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        features.append(extractor(network(batch)).double().numpy())
    values, real = np.concatenate(features), np.load("real.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mu, sigma = values.mean(axis=0), np.cov(values, rowvar=False)
        return float(calculate_frechet_distance(mu, sigma, real["mu"], real["sigma"]))


def _pytorch_fid(dims: int) -> Callable[[Tensor], Tensor]:
    """pytorch-fid's own network, on images in [-1, 1]."""
    network = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[dims]]).eval()
    return lambda images: network((images + 1) / 2)[0].mean(dim=(2, 3))


def _moments(extractor: FeatureExtractor, images: Images, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    features = extract_features(extractor, images, batch_size).double().numpy()
    return features.mean(axis=0), np.cov(features, rowvar=False)


def under_nnictl(options: argparse.Namespace, run: Run) -> float:
    """Seconds a trial and worker of a real experiment, from the start of one trial to that of the worker's next."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    experiment = {
        "experimentName": "search",
        "searchSpaceFile": "../space.json",
        "trialCodeDirectory": "..",
        "experimentWorkingDirectory": str(Path.cwd() / "nni"),
        "trialCommand": "python -m ganc_nni.nnictl.trial experiments/search.yml",
        "trialConcurrency": options.concurrency,
        "tuner": {
            "codeDirectory": "..",
            "className": "ganc_nni.nnictl.tuner.EvolutionTuner",
            "classArgs": {"recipe": "experiments/search.recipe.yml", "optimize_mode": "minimize"},
        },
        "trainingService": {"platform": "local"},
    }
    Path("experiments", "search.yml").write_text(yaml.safe_dump(experiment))
    (run.folder / "search" / "trials.csv").unlink(missing_ok=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["nnictl", "create", "--config", "experiments/search.yml", "--port", str(port)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    url = f"http://127.0.0.1:{port}/api/v1/nni"
    try:
        name = requests.get(f"{url}/experiment", timeout=20).json()["id"]
        while True:
            trials = requests.get(f"{url}/trial-jobs", timeout=20).json()
            ended = sorted(trial["endTime"] for trial in trials if trial["status"] == "SUCCEEDED")
            if any(trial["status"] == "FAILED" for trial in trials):
                raise RuntimeError(f"a trial failed: {json.dumps(trials)[:2000]}")
            if len(ended) >= options.trials:
                break
            time.sleep(0.5)
    finally:
        subprocess.run(["nnictl", "stop", name], env=environment, check=True, capture_output=True)
    settled = ended[options.concurrency : options.trials]  # the first ones wait for the evaluator to start
    return options.concurrency * (settled[-1] - settled[0]) / 1000 / (len(settled) - 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 256], help="height and width, pixels, multiple of 4")
    parser.add_argument("--pictures", type=int, default=120, help="images that are translated and scored")
    parser.add_argument("--batch-size", type=int, default=16, help="images at once")
    parser.add_argument("--candidates", type=int, default=3, help="sub-generators, after one that does not count")
    parser.add_argument(
        "--dims", type=int, choices=(0, 64, 192, 768, 2048), default=2048, help="features of Inception; 0: random ones"
    )
    parser.add_argument("--budget", type=float, default=40e3, help="published MACs a pixel (2.6e9 at 256x256: 40e3)")
    parser.add_argument(
        "--trials", type=int, default=12, help="trials under nnictl, at least 2 more than at once; 0: without nnictl"
    )
    parser.add_argument("--concurrency", type=int, default=2, help="trials at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, images and candidates")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # a widths to score the straightforward way
    options = parser.parse_args()
    if 0 < options.trials < options.concurrency + 2:
        parser.error(f"--trials: got {options.trials}; expected 0, or {options.concurrency + 2} or more")
    return options


if __name__ == "__main__":
    main()
