"""What every stage of a run shares: recipe, folder, data, networks, evaluators; each made when first asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ganc_nni.core.distributed import by_the_first
from ganc_nni.core.errors import InputError
from ganc_nni.core.hashes import FileHashes
from ganc_nni.core.io import load_into, load_weights
from ganc_nni.core.registry import load_plugins
from ganc_nni.core.widths import Widths
from ganc_nni.cost.budget import Budget
from ganc_nni.cost.latency_table import LatencyTable
from ganc_nni.cost.macs import Cost, count
from ganc_nni.data import IGNORE_ID, Data, LabelMaps, Split, build_data
from ganc_nni.generators import Generator, GeneratorConfig
from ganc_nni.generators.factory import planned_config, teacher_widths
from ganc_nni.generators.space import SearchSpace
from ganc_nni.interop import GeneratorFile, read_generator
from ganc_nni.losses.discriminator_files import DiscriminatorFile, read_discriminator
from ganc_nni.losses.distillation import losses_in_use
from ganc_nni.metrics import METRICS, ImageMetric
from ganc_nni.metrics.evaluator import Evaluator, pick_device
from ganc_nni.metrics.segmenters import Segmenter, build_segmenter, network_classes
from ganc_nni.recipe import Recipe
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.training.taught import Taught, fixed_views

_log = logging.getLogger(__name__)


class Run:
    """A recipe at work.

    Layout of :attr:`folder`: ``teacher/ supernet/ search/ finetune/ export/``, each with a ``stage.json`` once it is
    done, and ``architecture.json``.
    """

    def __init__(self, recipe: Recipe) -> None:
        load_plugins()
        self.recipe = recipe
        self.folder = recipe.run_folder

    @cached_property
    def device(self) -> torch.device:
        """Where everything runs."""
        return pick_device(self.recipe.device)

    @cached_property
    def data(self) -> Data:
        """The images."""
        return build_data(self.recipe.data, self.recipe.seed)

    @cached_property
    def hashes(self) -> FileHashes:
        """Hashes of what the run reads, kept in its folder."""
        return FileHashes(self.folder / "hashes.json")

    @cached_property
    def space(self) -> SearchSpace:
        """The student's channel choices.

        Raises:
            InputError: No search space, or one of another family.
        """
        path, family = self.recipe.student.space, self.recipe.generator.family
        space = SearchSpace.load(path)
        if tuple(space.choices) != self.student_config.labels:
            raise InputError(
                f"{path}: has the labels {', '.join(space.choices)}; generator.family is {family}; use a "
                "space of that family"
            )
        return space

    @cached_property
    def teacher_file(self) -> GeneratorFile | None:
        """The recipe's checkpoint; its widths, depth and kind of convolution are read from it alone.

        Raises:
            InputError: It is no generator, or one for images of other channels.
        """
        checkpoint, data, generator = self.recipe.teacher.checkpoint, self.recipe.data, self.recipe.generator
        if checkpoint is None:
            return None
        file = read_generator(checkpoint, **self.student_config.told())
        for key, expected, found in (
            ("generator.family", generator.family, file.config.family),
            ("data.source_channels", data.in_channels, file.config.in_channels),
            ("data.target_channels", data.out_channels, file.config.out_channels),
        ):
            if expected != found:
                raise InputError(f"{key}: the recipe says {expected}, {checkpoint} has {found}; correct the recipe")
        if data.classes is not None:  # the number alone does not tell what the last channels are
            parts = [f"{data.classes} classes", *(["void"] if data.void_id is not None else [])]
            parts += ["boundary of instances"] if data.instances else []
            _log.info("%s: its %d channels are read as %s", checkpoint, data.in_channels, ", ".join(parts))
        return file

    @property
    def teacher_discriminator_path(self) -> Path | None:
        """The file that the recipe names, or what a run has left next to the teacher that is its checkpoint."""
        named, checkpoint = self.recipe.teacher.discriminator, self.recipe.teacher.checkpoint
        if named is not None or checkpoint is None:
            return named
        helpers = checkpoint.with_name("helpers.safetensors")
        trained = checkpoint.name == "teacher.safetensors" and checkpoint.parent.name.partition(".")[0] == "teacher"
        return helpers if trained and helpers.is_file() else None

    @cached_property
    def teacher_discriminator_file(self) -> DiscriminatorFile | None:
        """The discriminator that the recipe's checkpoint was trained with, as named or as found next to it.

        One that was found and does not fit is none, with a warning.

        Raises:
            InputError: The one that is named does not fit; see :meth:`_read_teacher_discriminator`.
        """
        try:
            return self._read_teacher_discriminator()
        except InputError as error:
            if self.recipe.teacher.discriminator is not None:
                raise
            _log.warning("%s; it was found next to teacher.checkpoint, and is not used", error)
            return None

    def _read_teacher_discriminator(self) -> DiscriminatorFile | None:
        """What :attr:`teacher_discriminator_path` holds.

        Raises:
            InputError: It is no discriminator, has another shape than the recipe's, or belongs to no checkpoint.
        """
        path, recipe = self.teacher_discriminator_path, self.recipe
        if path is None:
            return None
        if recipe.teacher.checkpoint is None:
            raise InputError(
                f"teacher.discriminator: {path} needs teacher.checkpoint as well: a teacher that the run trains has "
                "its own, which is inherited by itself; leave out teacher.discriminator, or name the generator"
            )
        file = read_discriminator(path)
        for key in ("n_scales", "n_layers", "width"):
            expected, found = getattr(recipe.discriminator, key), getattr(file.shape, key)
            if expected != found:
                raise InputError(
                    f"discriminator.{key}: the recipe says {expected}, {path} has {found}; correct the recipe"
                )
        if file.in_channels != self.judged_channels:
            source, target = recipe.data.in_channels, recipe.data.out_channels
            kinds = {source + target: "conditional, it judges source and image together", target: "unconditional"}
            kind = kinds.get(file.in_channels, "another one")
            raise InputError(
                f"teacher.discriminator: {path} reads {file.in_channels} channels ({kind}); data.layout "
                f"{recipe.data.layout} needs {self.judged_channels} ({kinds[self.judged_channels]}); take the one that "
                "the teacher was trained with, or leave teacher.discriminator out"
            )
        return file

    @property
    def judged_channels(self) -> int:
        """Channels of what a discriminator judges: images alone, or with their sources where there are pairs."""
        data = self.recipe.data
        return data.out_channels + (data.in_channels if data.paired else 0)

    @property
    def teacher_config(self) -> GeneratorConfig:
        """The teacher without its widths."""
        if self.teacher_file is not None:
            return self.teacher_file.config
        return planned_config(self.recipe, self.recipe.teacher)

    @property
    def teacher_widths(self) -> Widths:
        """The teacher's widths by label."""
        if self.teacher_file is not None:
            return self.teacher_file.widths
        return teacher_widths(self.recipe)

    @property
    def pretrained_widths(self) -> Widths:
        """The widths of the student of ``pretrain``.

        Raises:
            InputError: Not one for each label.
        """
        recipe = self.recipe.pretrain
        if recipe is None or recipe.widths is None:
            return self.space.largest()
        if len(recipe.widths) != len(self.space.choices):
            raise InputError(
                f"pretrain.widths: got {len(recipe.widths)}; expected {len(self.space.choices)}, one for each of "
                f"{', '.join(self.space.choices)}"
            )
        return Widths(dict(zip(self.space.choices, recipe.widths, strict=True)))

    @property
    def student_config(self) -> GeneratorConfig:
        """The student without its widths."""
        return planned_config(self.recipe, self.recipe.student)

    @cached_property
    def student_cost(self) -> Cost:
        """MACs and parameters of the student as expressions of its widths."""
        space = self.student_config.build(self.space.mutables())
        return count(space, self.recipe.data.in_channels, self.recipe.data.image_size)

    @cached_property
    def teacher_cost(self) -> Cost:
        """MACs and parameters of the teacher."""
        return count(self._new_teacher(), self.recipe.data.in_channels, self.recipe.data.image_size)

    @cached_property
    def latency_table(self) -> LatencyTable | None:
        """Measured times of the student's parts; None where the recipe names no table."""
        path, student = self.recipe.search.latency_table, (self.student_config, self.space)
        return None if path is None else LatencyTable.load_for(path, *student, self.recipe.data.image_size)

    @cached_property
    def budget(self) -> Budget:
        """What a sub-generator may cost."""
        return Budget(self.space, self.student_cost, self.recipe.search, self.latency_table)

    def evaluator(self, name: str, split: Split | None = None) -> Evaluator:
        """An evaluator on the ``search`` or ``test`` split, or on another ``split`` called ``name``."""
        metric, labelled = self.recipe.metric, None
        split = split or getattr(self.data, name)
        if self.metric.needs_segmenter:
            table, maps = self.segmenter_table(), split.sources
            assert isinstance(maps, LabelMaps)  # the recipe has seen to that
            labelled = (self.segmenter, lambda index: table[maps.ids(index)])
        taught = self._taught_sources(split) if self.recipe.data.layout == "inputs" else None
        return Evaluator(metric, split, name, self.device, self.folder / "statistics", labelled, taught)

    def _taught_sources(self, split: Split) -> Taught:
        """The teacher's outputs for the sources of a split, computed now unless they are there."""
        sources, folder = split.sources, self.folder / "taught"
        taught = Taught(folder, sources.__getitem__, len(sources), sources.digest(), *self._teacher_made)
        by_the_first(taught.make)
        return taught

    @property
    def _teacher_made(self) -> tuple[Callable[[], Generator], str]:
        """What makes the teacher, on the run's device, and the hash of its weights."""
        return lambda: self.load_teacher().to(self.device), self.hashes.of([self.teacher_weights])[0]

    def taught_data(self) -> Data:
        """The data on which a student trains.

        With ``teacher.views`` each image comes in fixed views, with what the teacher makes of them. What is not there
        of that is computed now.

        Raises:
            InputError: It does not fit on the disk.
        """
        views, data = self.recipe.teacher.views, self.data
        if views is None:
            return data
        features = any(loss.reads_features for loss in losses_in_use(self.recipe.distillation).values())
        train = fixed_views(data.train, views, self.folder / "taught", *self._teacher_made, features=features)
        by_the_first(train.outputs.make)
        return replace(data, train=train)

    def calibration(self, seed: int | None = None) -> list[Tensor]:
        """Inputs from the training set on which batch norms are calibrated, ``N x C x H x W`` each.

        Evenly spread over the training set, or drawn at random by ``seed``. Empty for generators without batch norms.
        """
        images, wanted = self.data.still.sources, self.recipe.metric.calibration_images
        count = min(wanted, len(images)) if self.recipe.generator.has_batch_norms else 0
        if count == 0:
            return []
        if seed is None:
            return self.training_inputs(count, self.recipe.metric.batch_size)
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        return list(DataLoader(Subset(images, chosen), self.recipe.metric.batch_size))

    def training_inputs(self, count: int, batch_size: int = 1) -> list[Tensor]:
        """``count`` inputs evenly spread over the training set, or all if there are fewer, ``N x C x H x W`` each."""
        images = self.data.still.sources
        count = min(count, len(images))
        chosen = [index * len(images) // count for index in range(count)]
        loader = DataLoader(
            Subset(images, chosen), batch_size, generator=torch.Generator()
        )  # torch's own stays as it is
        return list(loader)

    @property
    def segmenter_weights(self) -> Path:
        """The file of the network that scores miou and map."""
        return self.recipe.segmenter.weights or self.folder / "segmenter" / "segmenter.safetensors"

    @cached_property
    def segmenter(self) -> Segmenter:
        """The network that scores miou and map.

        Raises:
            InputError: It is not there, or does not fit.
        """
        return build_segmenter(self.recipe.segmenter.network, self.segmenter_classes, self.segmenter_weights)

    @property
    def segmenter_classes(self) -> int:
        """Classes that the segmenter tells apart."""
        section, data = self.recipe.segmenter, self.recipe.data
        return section.n_classes or network_classes(section.network) or data.classes or 0

    def segmenter_table(self) -> Tensor:
        """The segmenter's class of each id of the label maps, ``(256,)``; ``IGNORE_ID`` where it has none.

        Raises:
            InputError: A class is none of the segmenter's.
        """
        meant = self.recipe.segmenter.classes
        if meant is None:
            meant = {label: label for label in range(self.recipe.data.classes or 0)}
        if strange := [(label, found) for label, found in meant.items() if found >= self.segmenter_classes]:
            label, found = strange[0]
            raise InputError(
                f"segmenter.classes: class {label} of the label maps would be {found} of the segmenter, which has "
                f"{self.segmenter_classes}; say there which class of the label maps is which of the network"
            )
        table = torch.full((256,), IGNORE_ID)
        for label, found in meant.items():
            table[label] = found
        return table

    @property
    def metric(self) -> type[ImageMetric]:
        """The recipe's metric: its direction, and what it needs.

        Raises:
            InputError: It is not registered.
        """
        return METRICS.find(self.recipe.metric.name)

    @cached_property
    def metric_name(self) -> str:
        """What a score of the recipe's metric may be called."""
        extractor = self.metric.extractor(self.recipe.metric)
        return self.metric.name if extractor is None else extractor.metric_name

    def _new_teacher(self) -> Generator:
        return self.teacher_config.build(list(self.teacher_widths.values()))

    def load_teacher(self) -> Generator:
        """The trained teacher, or the recipe's checkpoint."""
        if self.teacher_file is not None:
            return self.teacher_file.network()
        teacher = self._new_teacher()
        load_into(teacher, load_weights(self.teacher_weights), self.teacher_weights)
        return teacher.eval()

    @property
    def teacher_weights(self) -> Path:
        """The trained teacher's weights, or the recipe's checkpoint."""
        if self.teacher_file is not None:
            return self.teacher_file.path
        return self.folder / "teacher" / "teacher.safetensors"

    @property
    def pretrained_weights(self) -> Path:
        """The weights of the student of ``pretrain``."""
        return self.folder / "pretrain" / "student.safetensors"

    def load_parent(self) -> Generator:
        """The network whose weights students inherit: the student of ``pretrain``, if there is one, or the teacher."""
        if self.recipe.pretrain is None:
            return self.load_teacher()
        student = self.student_config.build(list(self.pretrained_widths.values()))
        load_into(student, load_weights(self.pretrained_weights), self.pretrained_weights)
        return student.eval()

    @property
    def searched_weights(self) -> Path:
        """The file of the weights with which, or from which, the search scores sub-generators."""
        if self.recipe.search.weights == "supernet":
            return self.supernet_weights
        return self.teacher_weights if self.recipe.pretrain is None else self.pretrained_weights

    @property
    def supernet_weights(self) -> Path:
        """The trained student's weights."""
        return self.folder / "supernet" / "supernet.safetensors"

    def new_space(self) -> Generator:
        """The student as an NNI model space, untrained."""
        return self.student_config.build(self.space.mutables())

    def load_supernet(self) -> Generator:
        """The trained once-for-all supernet, on the run's device."""
        supernet = make_supernet(self.new_space())
        load_into(supernet, load_weights(self.supernet_weights), self.supernet_weights)
        return supernet.to(self.device).eval()
