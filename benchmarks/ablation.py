"""What each part of a warm start is worth, at equal MACs and equal steps: real horse2zebra, or drawn images.

Each variant trains a student of the same published MACs from another start, with the same losses and the same number of
steps. The last variant is what a user would do without this toolkit: the teacher's channels pruned by magnitude with
Torch-Pruning to the same MACs. Score: the Fréchet distance of the student's test images to the real ones (lower is
better). SSIM: to the teacher's outputs for the same inputs (1 is equal). Both as mean and standard deviation over the
seeds. GANC_DATA names the folder with datasets/horse2zebra; where it is unset, drawn images stand in for them.

A row is a finished training. Rows stay in the folder --out: the same command goes on where it stopped or was killed,
within a training from its last checkpoint, and prints what there is. Other options make other rows.
"""

from __future__ import annotations

from common import quiet  # first: it says how torch's threads wait

# isort: split
import argparse
import copy
import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.space import RawFormatModelSpace
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ganc_nni.core.errors import InputError, in_one_line
from ganc_nni.core.io import read_json, write_text
from ganc_nni.cost.macs import count
from ganc_nni.generators import FAMILIES, Generator, GeneratorConfig
from ganc_nni.interop import read_generator
from ganc_nni.losses.distillation import loss_weights
from ganc_nni.metrics.evaluator import Evaluator, translate
from ganc_nni.metrics.fidelity import FidelityScore
from ganc_nni.recipe import Recipe, SamplingRecipe, Schedule, load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import OpenEngine, distillation_module
from ganc_nni.stages.warm_start import IMAGES, inherit_parent, order_of
from ganc_nni.stages.warmup import start_discriminator
from ganc_nni.supernet.distillation import DistillationModule, DistillationStrategy, make_supernet, trained_student
from ganc_nni.supernet.inherit import inherit
from ganc_nni.supernet.reconstruct import reconstruct
from ganc_nni.supernet.sampling import WidthSampler
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import StageFit, part

RELEASED = "weights/gan_compression_horse2zebra_16_16_32_16_32_32_16_16.pth"
REAL = {"layout": "unpaired", "root": "datasets/horse2zebra"}
DRAWN = {"layout": "unpaired"}
FOLDERS = ("trainA", "trainB", "testA", "testB")


@dataclass(frozen=True)
class Variant:
    """Where a student starts from, and how its steps draw widths.

    Attributes:
        generator: It starts from the teacher's weights, most important channels first.
        discriminator: Its discriminator starts from the teacher's, or is warmed up where that is not known.
        sandwich: All steps train a supernet by the sandwich rule, whose smallest sub-generator is the student.
        reconstruction: Its convolutions are solved against the teacher's before the first step.
        pruned: It is the teacher itself, pruned by magnitude with Torch-Pruning, so its convolutions are the teacher's.
    """

    generator: bool = False
    discriminator: bool = False
    sandwich: bool = False
    reconstruction: bool = False
    pruned: bool = False


VARIANTS = {
    "from scratch": Variant(),
    "inherit G": Variant(generator=True),
    "inherit D": Variant(discriminator=True),
    "both": Variant(generator=True, discriminator=True),
    "both + sandwich": Variant(generator=True, discriminator=True, sandwich=True),
    "both + reconstruction": Variant(generator=True, discriminator=True, reconstruction=True),
    "pruned teacher, inherit D": Variant(discriminator=True, pruned=True),
}


class Ablation:
    """A teacher, the student's architecture, and what was trained so far.

    Args:
        options: See :func:`parser`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.run = Run(_recipe(options))

    @cached_property
    def teacher(self) -> Generator:
        """The teacher, on the run's device; the first call trains it where there is none yet."""
        Pipeline(self.run).run_until("teacher")
        return self.run.load_teacher().to(self.run.device)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores on the test images."""
        return self.run.evaluator("test")

    @cached_property
    def config(self) -> GeneratorConfig:
        """The student but its widths."""
        return self.run.student_config

    @property
    def macs(self) -> int:
        """Published MACs of a student for one image."""
        return self.macs_of(self.config.build(list(self.run.space.smallest().values())))

    def macs_of(self, network: nn.Module) -> int:
        """Published MACs of a network for one image."""
        data = self.run.recipe.data
        return int(count(network, data.in_channels, data.image_size).macs_published)  # type: ignore[arg-type]

    def seeded(self, variant: Variant, seed: int) -> Run:
        """The same run, with what a variant and a seed change; the data are decoded once for all."""
        recipe = self.run.recipe
        student = recipe.student.model_copy(update={"inherit": "auto" if variant.generator else "none"})
        found = Run(recipe.model_copy(update={"student": student}))
        found.data = self.run.data
        torch.manual_seed(seed)
        return found

    def start(self, variant: Variant, run: Run) -> tuple[DistillationModule, Generator]:
        """What trains the student, and the network that it trains: a student, or for the sandwich rule a space.

        The discriminator and the feature mappings of the module are as the variant starts them.
        """
        module = distillation_module(run, self.schedule, None)
        if variant.discriminator:
            with torch.random.fork_rng(devices=[]):  # a student's random weights are those of its seed alone
                start_discriminator(run, module.discriminator, "supernet", run.recipe.supernet.schedule)
        if variant.pruned:
            return module, self.pruned()
        if variant.sandwich:
            return module, run.new_space()
        supernet = make_supernet(run.new_space()).to(run.device)
        self.fill(run, supernet, module)
        widths = run.space.smallest()
        student = self.config.build(list(widths.values())).to(run.device)
        student.load_state_dict(supernet.freeze(dict(widths)).state_dict())
        if variant.reconstruction:
            teacher = self.teacher
            order = order_of(run, teacher)
            inherit(student, teacher, order)
            reconstruct(student, teacher, order, [image.to(run.device) for image in run.training_inputs(IMAGES)])
        return module, student

    def fill(self, run: Run, supernet: Generator, module: DistillationModule) -> None:
        """Give a supernet its first weights: random ones, or the teacher's as the run's recipe says."""
        initialise(supernet, run.recipe.generator.family)
        inherit_parent(run, supernet, module.mappings)

    def pruned(self) -> Generator:
        """The teacher with as many channels in each layer, in proportion, as make the student's MACs or just less."""
        low, high = 0.0, 1.0
        for _ in range(7):
            ratio = (low + high) / 2
            low, high = (
                (low, ratio) if self.macs_of(prune(self.teacher, ratio, self.size)) <= self.macs else (ratio, high)
            )
        return prune(self.teacher, high, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.run.recipe.data.image_size

    @cached_property
    def schedule(self) -> Schedule:
        """Of each variant: half of the epochs at the full rate; nothing is scored before the end."""
        options, images = self.options, len(self.run.data.train)
        epochs = max(2, round(options.steps / max(1, images // options.batch)))
        return Schedule(
            epochs=epochs - epochs // 2,
            decay_epochs=epochs // 2,
            batch_size=options.batch,
            learning_rate=options.learning_rate,
            validate_every=10**6,
        )

    def train(self, variant: Variant, seed: int, folder: Path) -> dict[str, float | None]:
        """Train one variant; its score, SSIM, steps and CPU seconds."""
        run, start = self.seeded(variant, seed), time.process_time()
        module, network = self.start(variant, run)
        recipe = run.recipe.model_copy(update={"seed": seed})
        fit = StageFit("student", recipe, self.schedule, run.data, folder)
        fit.trainer.limit_val_batches = 0
        if variant.sandwich:
            student = self._sandwich(run, seed, module, network, fit)
        else:
            module.set_model(network.train())
            weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
            network.load_state_dict(trained_student(weights))
            student = network
        seconds = time.process_time() - start
        student = student.to(run.device).eval()
        return {
            "score": self.evaluator.score(student),
            "ssim": self.ssim(student),
            "macs": self.macs_of(student),
            "steps": self.schedule.total_epochs * len(fit.train_loader),
            "seconds": round(seconds, 1) if fit.start.path is None else None,  # else an earlier call took some of them
        }

    def _sandwich(self, run: Run, seed: int, module: DistillationModule, space: Generator, fit: StageFit) -> Generator:
        strategy = DistillationStrategy(WidthSampler(run.space, SamplingRecipe(rule="sandwich"), seed))

        def distil(**at: object) -> None:
            evaluate = Lightning(module, fit.trainer, fit.train_loader, fit.validation_loader, fit_kwargs=at)
            strategy.initialize(RawFormatModelSpace(space, evaluate), OpenEngine())
            self.fill(run, space, module)
            strategy.run()

        weights = trained_student(part(fit.run(distil), "training_module."))
        supernet = make_supernet(run.new_space())
        supernet.load_state_dict(weights)
        widths = run.space.smallest()
        student = self.config.build(list(widths.values()))
        student.load_state_dict(supernet.freeze(dict(widths)).state_dict())
        return student

    @torch.inference_mode()
    def ssim(self, student: Generator) -> float | None:
        """Mean structural similarity of the student's test images to the teacher's, at most 1."""
        score = FidelityScore().to(self.run.device)
        for batch in DataLoader(self.evaluator.split.sources, self.options.batch):
            source = batch.to(self.run.device)
            score.update(translate(student, source), translate(self.teacher, source))
        return score.compute().ssim

    def row(self, variant: Variant, seed: int) -> Path:
        """Where the outcome of a training is kept; the name depends on all that the outcome does."""
        options = self.options
        recipe = self.run.recipe.distillation
        weights = {f"lambda_{name}": float(weight) for name, weight in loss_weights(recipe).items()}
        losses = {**recipe.model_dump(mode="json", exclude={"losses"}), **weights}
        depends: list[Any] = [asdict(variant), self._teacher_key, self.run.space.choices, losses]
        depends += [options.steps, options.batch, options.learning_rate, seed]
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        return self.run.folder / "variants" / digest[:16] / "row.json"

    @cached_property
    def _teacher_key(self) -> str:
        return Pipeline(self.run).key("teacher")

    def rows(self, variant: Variant) -> list[dict[str, Any]]:
        """What there is of a variant."""
        paths = [self.row(variant, seed) for seed in range(self.options.seeds)]
        return [read_json(path) for path in paths if path.is_file()]


def prune(teacher: Generator, ratio: float, size: tuple[int, int]) -> Generator:
    """A copy of the teacher without ``ratio`` of the channels of each layer, those of the least L1 norm first.

    Raises:
        InputError: Torch-Pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError:
        raise InputError("the pruned teacher needs Torch-Pruning: pip install --no-deps torch-pruning==1.6.1") from None
    network = copy.deepcopy(teacher).cpu().requires_grad_(True)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    first, last = convolutions[0], convolutions[-1]
    shown = torch.zeros(1, first.in_channels, *size)
    pruner = torch_pruning.pruner.BasePruner(
        network,
        shown,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=ratio,
        ignored_layers=[last],
    )
    pruner.step()

    def note(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        norm.num_features = given[0].shape[1]  # type: ignore[assignment]

    # Torch-Pruning leaves the number of a norm without weights as it was
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    with torch.no_grad():
        network(shown)
    for hook in hooks:
        hook.remove()
    return network.to(next(teacher.parameters()).device)


def _recipe(options: argparse.Namespace) -> Recipe:
    """The recipe of the teacher and the student, written into the folder of the rows with its search space."""
    options.out.mkdir(parents=True, exist_ok=True)
    size, out = list(options.size), options.out.resolve()
    real = "GANC_DATA" in os.environ
    data: dict[str, Any] = dict(REAL) if real else {**DRAWN, "procedural_images": options.images}
    if real:
        data["root"] = str(_subset(Path(os.environ["GANC_DATA"]) / data["root"], out, options.images))
    name = f"{options.teacher if options.teacher in ('trained', 'released') else 'given'}_{size[0]}x{size[1]}"
    content: dict[str, Any] = {
        "device": options.device,
        "data": {**data, "image_size": size, "load_size": [side * 9 // 8 for side in size], "cache": True},
        "teacher": {"width": options.teacher_width, "n_blocks": options.blocks, "schedule": _teachers(options)},
        "student": {"space": str(out / f"{name}.space.json"), "n_blocks": options.blocks},
        "discriminator": {"width": options.discriminator_width, "n_layers": options.discriminator_layers},
        "distillation": {"gan_loss": "lsgan", "lambda_recon": 10, "lambda_distill": 0.01},
        "metric": {"name": "frechet_imagenet" if real else "frechet_random", "dims": 768, "min_images": 8},
        "search": {"budget": 1e12},
    }
    widths = dict.fromkeys(FAMILIES["resnet"].spaces[0], options.teacher_width)
    if options.teacher != "trained":
        data_folder = Path(os.environ.get("GANC_DATA", ""))
        checkpoint = data_folder / RELEASED if options.teacher == "released" else Path(options.teacher).resolve()
        file = read_generator(checkpoint)
        widths = dict(file.widths)
        content["teacher"] = {"checkpoint": str(checkpoint)}
        content["student"]["n_blocks"] = getattr(file.config, "n_blocks", options.blocks)
    space = {
        label: {"_type": "choice", "_value": sorted({max(4, round(options.part * width / 4) * 4), width})}
        for label, width in widths.items()
    }
    write_text(out / f"{name}.space.json", json.dumps(space, indent=2) + "\n")
    path = out / f"{name}.recipe.yml"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return load_recipe(path)


def _teachers(options: argparse.Namespace) -> dict[str, Any]:
    epochs = max(2, options.teacher_steps // max(1, options.images))
    rates = {"batch_size": 1, "learning_rate": 5e-4, "validate_every": epochs}
    return {"epochs": epochs - epochs // 2, "decay_epochs": epochs // 2, **rates}


def _subset(root: Path, out: Path, images: int) -> Path:
    """A folder with the first ``images`` images of each training domain, and a quarter as many of each test domain."""
    found = out / f"first_{images}"
    for folder in FOLDERS:
        (found / folder).mkdir(parents=True, exist_ok=True)
        wanted = images if folder.startswith("train") else images // 4
        for path in sorted((root / folder).iterdir())[:wanted]:
            if not (found / folder / path.name).exists():
                shutil.copyfile(path, found / folder / path.name)
    return found


def main() -> None:
    """Train what is missing, and print the table."""
    options = parser().parse_args()
    quiet()
    os.environ["GANC_RUNS"] = str(options.out.resolve())
    ablation = Ablation(options)
    start = time.monotonic()
    wanted = [(name, VARIANTS[name], seed) for seed in range(options.seeds) for name in options.variants]
    missing = [(name, variant, seed) for name, variant, seed in wanted if not ablation.row(variant, seed).is_file()]
    for done, (name, variant, seed) in enumerate(missing):
        passed = time.monotonic() - start
        if options.minutes and passed > 60 * options.minutes:
            break
        left = f", about {passed / done * (len(missing) - done) / 60:.0f} minutes left" if done else ""
        print(f"{len(wanted) - len(missing) + done + 1}/{len(wanted)}: {name}, seed {seed}{left}", flush=True)
        path = ablation.row(variant, seed)
        write_text(path, json.dumps({"variant": name, "seed": seed, **ablation.train(variant, seed, path.parent)}))
    show(ablation, options.variants)
    left_over = sum(not ablation.row(variant, seed).is_file() for _, variant, seed in wanted)
    if left_over:
        print(f"\n{left_over} rows are missing; the same command goes on")


def show(ablation: Ablation, names: Sequence[str]) -> None:
    """The table, as Markdown."""
    evaluator, teacher = ablation.evaluator, ablation.teacher
    height, width = ablation.size
    scores = f"teacher {evaluator.score(teacher):.3f} ({ablation.macs_of(teacher) / 1e6:.1f}M published MACs)"
    untouched = evaluator.score(nn.Identity())
    count = len(evaluator.split.sources)
    print(f"\n{height}x{width}, {evaluator.metric_name}, {count} test images, lower is better")
    print(f"{scores}, untouched input {untouched:.3f}\n")
    print("| variant | score | SSIM to the teacher | published MACs | seeds | steps | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        if rows := ablation.rows(VARIANTS[name]):
            score, ssim = (spread([row[key] for row in rows]) for key in ("score", "ssim"))
            seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
            steps = f"{rows[0]['steps']:.0f}"
            cells = (name, score, ssim, f"{rows[0]['macs'] / 1e6:.2f}M", str(len(rows)), steps, spread(seconds, 0))
            print(f"| {' | '.join(cells)} |")


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, of more than one, standard deviation; empty for no values."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def parser() -> argparse.ArgumentParser:
    """What may be said on the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    found.add_argument("--teacher", default="trained", help="trained: a CycleGAN's of the script; released; or a file")
    found.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="which to compare")
    found.add_argument("--seeds", type=int, default=3, help="trainings of each variant")
    found.add_argument("--steps", type=int, default=120, help="steps of a student, about: whole epochs")
    found.add_argument("--teacher-steps", type=int, default=3000, help="steps of a trained teacher, about")
    found.add_argument("--size", type=int, nargs=2, default=(64, 64), help="height and width, pixels, multiple of 4")
    found.add_argument("--images", type=int, default=240, help="training images a domain; a quarter of that to test")
    found.add_argument("--batch", type=int, default=4, help="images a step")
    found.add_argument("--learning-rate", type=float, default=1e-3, help="of student and discriminator")
    found.add_argument("--part", type=float, default=0.5, help="of the teacher's widths, 0 to 1: the student's")
    found.add_argument("--teacher-width", type=int, default=16, help="channels of a trained teacher's first layer")
    found.add_argument("--blocks", type=int, default=4, help="residual blocks of a trained teacher and its student")
    found.add_argument("--discriminator-width", type=int, default=32, help="channels of its first layer")
    found.add_argument("--discriminator-layers", type=int, default=2, help="strided layers of the discriminator")
    found.add_argument("--minutes", type=float, help="begin no training after this time; left out: finish all")
    found.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: CUDA if there is one")
    found.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of teacher and rows")
    return found


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults, keep the description's lines."""


if __name__ == "__main__":
    with in_one_line():
        main()
