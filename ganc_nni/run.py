"""What every stage of a run shares: recipe, folder, data, networks, evaluators; each made when first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from ganc_nni.architecture import Blueprint
from ganc_nni.checkpoints import load_into, load_weights
from ganc_nni.data import Data, build_data
from ganc_nni.discriminators import PatchDiscriminator
from ganc_nni.errors import InputError
from ganc_nni.evaluate import Evaluator, check_size, pick_device
from ganc_nni.generators import ResnetGenerator
from ganc_nni.generators.resnet import LABELS
from ganc_nni.interop import GeneratorFile, read_generator
from ganc_nni.losses import build_reconstruction
from ganc_nni.macs import Cost, count
from ganc_nni.metrics import build_extractor
from ganc_nni.oneshot.distillation import make_supernet
from ganc_nni.recipe import Recipe
from ganc_nni.space import Sample, SearchSpace


class Run:
    """A recipe at work.

    Layout of :attr:`folder`: ``teacher/ supernet/ search/ finetune/ export/``, each with a ``stage.json`` once it is
    done, and ``architecture.json``.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.folder = recipe.run_folder

    @cached_property
    def device(self) -> torch.device:
        """Where everything runs."""
        return pick_device(self.recipe.device)

    @cached_property
    def data(self) -> Data:
        """The pictures."""
        return build_data(self.recipe.data, self.recipe.seed)

    @cached_property
    def space(self) -> SearchSpace:
        """The student's channel choices."""
        return SearchSpace.load(self.recipe.student.space)

    @cached_property
    def _teacher_file(self) -> GeneratorFile | None:
        """The recipe's checkpoint; its widths, depth and kind of convolution are read from it alone.

        Raises:
            InputError: It is no generator, or one for pictures of other channels.
        """
        checkpoint, data = self.recipe.teacher.checkpoint, self.recipe.data
        if checkpoint is None:
            return None
        file = read_generator(checkpoint)
        for key, expected, found in (
            ("data.source_channels", data.source_channels, file.blueprint.in_channels),
            ("data.target_channels", data.target_channels, file.blueprint.out_channels),
        ):
            if expected != found:
                raise InputError(f"{key}: the recipe says {expected}, {checkpoint} has {found}; correct the recipe")
        return file

    @property
    def teacher_blueprint(self) -> Blueprint:
        """The teacher but its widths."""
        if self._teacher_file is not None:
            return self._teacher_file.blueprint
        return self._blueprint(self.recipe.teacher.n_blocks, self.recipe.teacher.separable)

    @property
    def teacher_sample(self) -> Sample:
        """The teacher's widths by label."""
        if self._teacher_file is not None:
            return self._teacher_file.sample
        return dict.fromkeys(LABELS, self.recipe.teacher.width)

    @property
    def student_blueprint(self) -> Blueprint:
        """The student but its widths."""
        return self._blueprint(self.recipe.student.n_blocks, self.recipe.student.separable)

    def _blueprint(self, n_blocks: int, separable: bool) -> Blueprint:
        data = self.recipe.data
        channels = {"in_channels": data.source_channels, "out_channels": data.target_channels}
        return Blueprint(**channels, n_blocks=n_blocks, separable=separable)

    @cached_property
    def student_cost(self) -> Cost:
        """MACs and parameters of the student as expressions of its widths."""
        space = self.student_blueprint.build(self.space.mutables())
        return count(space, self.recipe.data.source_channels, self.recipe.data.image_size)

    @cached_property
    def teacher_cost(self) -> Cost:
        """MACs and parameters of the teacher."""
        return count(self._new_teacher(), self.recipe.data.source_channels, self.recipe.data.image_size)

    def evaluator(self, split: str) -> Evaluator:
        """An evaluator on the ``search`` or ``test`` split."""
        cache = self.folder / "statistics"
        return Evaluator(self.recipe.metric, getattr(self.data, split), split, self.device, cache)

    @cached_property
    def metric_name(self) -> str:
        """What a score of the recipe's metric may be called."""
        return build_extractor(self.recipe.metric).metric_name

    def check(self) -> None:
        """Refuse whatever can be known to fail before any training.

        Raises:
            InputError: Data, metric, checkpoint or budget do not fit; the message says how to mend it.
        """
        metric = self.recipe.metric
        check_size(metric, self.data.search, "search")
        check_size(metric, self.data.test, "test")
        _ = self.metric_name
        _ = self._teacher_file
        build_reconstruction(self.recipe.distillation.recon_loss, self.recipe.distillation.perceptual_weights)
        size, n_layers = self.recipe.data.image_size, self.recipe.discriminator.n_layers
        smallest_side = PatchDiscriminator(1, n_layers=n_layers).smallest
        if min(size) < smallest_side:
            raise InputError(
                f"data.image_size: got {size}; a discriminator of {n_layers} layers needs at least {smallest_side} "
                "pixels a side; enlarge it or lower discriminator.n_layers"
            )
        self._check_budget()

    def _check_budget(self) -> None:
        search = self.recipe.search
        smallest = self.student_cost.at(self.space.smallest()).macs(search.convention)
        largest = self.student_cost.at(self.space.largest()).macs(search.convention)
        if not smallest <= search.budget <= largest:
            side = "below the smallest" if search.budget < smallest else "above the largest"
            height, width = self.recipe.data.image_size
            raise InputError(
                f"search.budget: {search.budget:.6g} {search.convention} MACs is {side} sub-generator; "
                f"{self.recipe.student.space} at {height}x{width} reaches from {smallest} to {largest}"
            )

    def _new_teacher(self) -> ResnetGenerator:
        return self.teacher_blueprint.build(list(self.teacher_sample.values()))

    def load_teacher(self) -> ResnetGenerator:
        """The trained teacher, or the recipe's checkpoint."""
        if self._teacher_file is not None:
            return self._teacher_file.network()
        path = self.folder / "teacher" / "teacher.safetensors"
        teacher = self._new_teacher()
        load_into(teacher, load_weights(path), path)
        return teacher.eval()

    @property
    def supernet_weights(self) -> Path:
        """The trained student's weights."""
        return self.folder / "supernet" / "supernet.safetensors"

    def new_space(self) -> ResnetGenerator:
        """The student as an NNI model space, untrained."""
        return self.student_blueprint.build(self.space.mutables())

    def load_supernet(self) -> ResnetGenerator:
        """The trained once-for-all supernet, on the run's device."""
        supernet = make_supernet(self.new_space())
        load_into(supernet, load_weights(self.supernet_weights), self.supernet_weights)
        return supernet.to(self.device).eval()
