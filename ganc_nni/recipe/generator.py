"""The section that says what the generators are: of which family, and what that family lets a recipe choose."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self, cast

from pydantic import Field, create_model

from ganc_nni.core.registry import Registry
from ganc_nni.recipe.fields import Section
from ganc_nni.recipe.variants import Variants


class GeneratorRecipe(Section, Variants):
    """The family of teacher and student."""

    family: str = Field("resnet", description="kind of generator")

    # A family's own section is a subclass with its keys, and with what a recipe has to know of the family.
    reads_labels: ClassVar[bool] = False
    """Generators read label maps instead of images."""
    has_batch_norms: ClassVar[bool] = False
    """Networks that a run trains have batch norms, whose statistics are taken over all devices, and calibrated."""
    has_blocks: ClassVar[bool] = False
    """There are residual blocks whose activations can be computed again."""
    can_be_deeper: ClassVar[bool] = False
    """The key ``n_blocks`` of teacher and student makes generators of any depth."""
    former: ClassVar[bool] = False
    """The section also takes the keys of all other former ones: all recipes had them when these families shared one
    section. The keys of finished stages hold them."""

    @classmethod
    def variants(cls) -> Mapping[str, type[Self]]:
        """The sections of all families, as recipes may have them."""
        return cast("Mapping[str, type[Self]]", _complete(tuple(SECTIONS.items())))


SECTIONS: Registry[type[GeneratorRecipe]] = Registry("generator.family", package="ganc_nni.generators")
"""The section of each family. Generators need torch, which reading a recipe's other sections does not."""


@lru_cache(maxsize=8)
def _complete(sections: tuple[tuple[str, type[GeneratorRecipe]], ...]) -> dict[str, type[GeneratorRecipe]]:
    """Each section, with the keys of the other former ones if it is one."""
    former = {key: field for _, each in sections if each.former for key, field in each.model_fields.items()}
    found = {}
    for name, section in sections:
        others: dict[str, Any] = {
            key: (each.annotation, each) for key, each in former.items() if key not in section.model_fields
        }
        found[name] = create_model(section.__name__, __base__=section, **others) if section.former else section
    return found
