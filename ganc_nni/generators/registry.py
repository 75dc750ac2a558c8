"""Families of generators: all that is known of one, said in the file that registers it.

The pattern of timm's ``timm/models/convmixer.py`` and ``timm/models/_registry.py``: a whole family in one file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar

from nni.nas.nn.pytorch import ModelSpace
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import Registry, code_inputs
from ganc_nni.core.widths import Widths
from ganc_nni.generators.keymap import KeyMap, Trained, not_in
from ganc_nni.generators.layers import Width
from ganc_nni.recipe.generator import SECTIONS, GeneratorRecipe
from ganc_nni.recipe.training import StudentRecipe, TeacherRecipe
from ganc_nni.recipe.variants import Variants


class Generator(ModelSpace, disable_init_wrapper=True):  # type: ignore[call-arg]
    """Teacher, space, supernet, sub-generator and deployable network are states of one such class a family.

    Attributes:
        feature_channels: Channels of the activations that are distilled; expressions in a model space.
    """

    feature_channels: list[Width]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, ``N x out_channels x H x W`` in [-1, 1], and the activations that are distilled."""
        raise NotImplementedError


class GeneratorConfig(Variants):
    """All of a generator except its widths, and all that is known of its family.

    A subclass is a family: its fields tell its generators apart, its class attributes and methods are the same for all.

    Attributes:
        in_channels: Of the input: an image's, or those of an encoded label map.
        out_channels: Of the image that is made.
        separable: Separable instead of full convolutions where the family has a choice.
        family: The name under which it is registered.
        section: The section ``generator`` of its recipes.
        spaces: The labels of its widths, in the order of a configuration string; one entry for each set of labels,
            where the depth decides which a generator has (see :attr:`labels`).
        older_labels: Names of the widths in older configuration strings; one that is no label stands for all labels
            that begin with it.
        layer_kinds: Fields by which generators of the same depth may differ.
        untold: Fields that a file's tensors do not tell, or not always.
        files: How its generators are found in files, those of this project included.
        blocks: Its modules whose activations can be computed again to save memory; they draw no random numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_channels: Annotated[int, Field(ge=1, le=2**17)] = 3  # 16 bits of ids, void and edges between instances
    out_channels: Annotated[int, Field(ge=1, le=2**17)] = 3
    separable: bool = False
    family: str

    section: ClassVar[type[GeneratorRecipe]]
    spaces: ClassVar[tuple[tuple[str, ...], ...]]
    older_labels: ClassVar[tuple[str, ...]] = ()
    layer_kinds: ClassVar[frozenset[str]] = frozenset({"separable"})
    untold: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[type[KeyMap], ...]]
    blocks: ClassVar[tuple[type[nn.Module], ...]] = ()

    @classmethod
    def variants(cls) -> Mapping[str, type[Self]]:
        """All families."""
        return FAMILIES  # type: ignore[return-value]

    @classmethod
    @abstractmethod
    def planned(
        cls, generator: Any, part: TeacherRecipe | StudentRecipe, in_channels: int, out_channels: int
    ) -> GeneratorConfig:
        """What a recipe describes: its section ``generator``, and its section ``teacher`` or ``student``."""

    @classmethod
    def of_space(cls, told: Mapping[str, Any]) -> GeneratorConfig | None:
        """What a search space stands for that comes without a recipe; ``told``: see :attr:`untold`; None: nothing."""
        return None

    @abstractmethod
    def build(self, widths: Sequence[Width]) -> Generator:
        """The generator with these widths: a network if they are integers, a model space if they are choices."""

    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """What height and width have to be multiples of, and the least, pixels."""

    @abstractmethod
    def describe(self) -> str:
        """In words."""

    @abstractmethod
    def brief(self) -> str:
        """In few words, for a table, after the family's name: ``9 blocks, separable``."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of its widths, in order; one of :attr:`spaces`."""
        return self.spaces[0]

    @property
    def convolutions(self) -> str:
        """Their kind, for descriptions: ``separable`` or ``full``."""
        return "separable" if self.separable else "full"

    @property
    def reads_labels(self) -> bool:
        """Whether it reads label maps instead of images."""
        return self.section.reads_labels

    def teacher_widths(self, width: int) -> Widths:
        """The widths of a teacher to train: all the same."""
        return Widths(dict.fromkeys(self.labels, width))

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether sides that are such multiples make an image that is large enough."""
        return True

    def check_size(self, size: tuple[int, int], name: str) -> None:
        """Refuse an image's height and width, called ``name``, that the generator cannot work at.

        Raises:
            InputError: Not multiples of what the generator divides them by, or too small.
        """
        multiple, least = self.sides()
        if any(side < least or side % multiple for side in size) or not self.fits(size):
            raise InputError(
                f"{name}: got {size[0]} x {size[1]}; a {self.describe()}, needs height and width as multiples of "
                f"{multiple}, {least} or more{'' if self.fits((least, least)) else ' and not both the least'}"
            )

    def depth(self) -> dict[str, Any]:
        """The fields that are the same where layers correspond."""
        return self.model_dump(exclude=set(self.layer_kinds))

    def told(self) -> dict[str, Any]:
        """The fields that a file's tensors do not tell."""
        return {key: getattr(self, key) for key in self.untold}

    def completed(self, told: Mapping[str, Any], name: str) -> GeneratorConfig:
        """The config of a generator as found in a file, called ``name``, with what the tensors do not tell.

        Raises:
            InputError: The tensors are not those of what is told.
        """
        return self

    @staticmethod
    def initial(weight: Tensor) -> None:
        """Fill a new convolution's weight, of any network that trains with the family: N(0, 0.02).

        As pix2pix and CycleGAN have it (1611.07004, section 6.2).
        """
        nn.init.normal_(weight, 0.0, 0.02)

    def in_training(self, widths: Sequence[int]) -> Generator:
        """A teacher as it is trained; :meth:`trained` makes the plain network's weights of it."""
        return self.build(widths)

    def trained(self, network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The plain generator's weights of what ``network``, made by :meth:`in_training`, has come to.

        The network may be changed for that, and trains no further.
        """
        return weights

    def for_project(self, project: str, trained: Trained) -> tuple[Mapping[str, Tensor], str]:
        """The tensors as another project names them, and the options by which it loads them.

        Raises:
            InputError: It has no such generator.
        """
        raise not_in(project, self, trained)


FAMILIES: Registry[type[GeneratorConfig]] = Registry("generator.family", package="ganc_nni.generators")

Config = TypeVar("Config", bound=type[GeneratorConfig])


def register_family(config: Config) -> Config:
    """Register the decorated class as the family that its field ``family`` names, for recipes and files."""
    fields: dict[str, Any] = config.model_fields  # type: ignore[call-overload]
    name = fields["family"].default
    FAMILIES.add(name, config)
    SECTIONS.add(name, config.section)
    return config


def family_inputs(recipe: GeneratorRecipe) -> dict[str, object]:
    """What the choice of a family adds to the values on which stages depend, by key.

    A family that is not of this package counts with the content of its file.
    """
    key = "generator.family"
    return {key: recipe.family, **code_inputs(key, FAMILIES[recipe.family])}


def labels_of(names: Collection[str]) -> tuple[str, ...]:
    """The labels of the family whose widths have these names, in order; families that share the names share the order.

    Raises:
        ValueError: No family has exactly these.
    """
    known = {labels: name for name, family in reversed([*FAMILIES.items()]) for labels in family.spaces}
    for labels in known:
        if set(labels) == set(names):
            return labels
    families = "; or ".join(f"{', '.join(labels)} ({name})" for labels, name in reversed(known.items()))
    raise ValueError(f"expected exactly the labels {families}; got {', '.join(map(str, names)) or 'none'}")
