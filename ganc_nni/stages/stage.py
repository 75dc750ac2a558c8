"""One step of a run as a value: what it depends on, what it leaves, and what makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from ganc_nni.recipe import Recipe, Schedule, SegmenterRecipe

if TYPE_CHECKING:
    from ganc_nni.run import Run
    from ganc_nni.training.loop import Report

SplitName = Literal["train", "search", "test"]


@dataclass(frozen=True)
class Reads:
    """What a stage reads besides what the stages before it have made.

    Attributes:
        keys: Of the recipe: sections, or single keys like ``search.repeats``. A section stands for those of its keys
            that influence results by themselves, see :class:`~ganc_nni.recipe.fields.Influence`. Files that keys name
            count by content.
        images: Splits that its outcome depends on.
        scored_on: Splits that only its own figures depend on, not what it hands to later stages.
        more: Further keys, under a recipe.
    """

    keys: tuple[str, ...] = ()
    images: tuple[SplitName, ...] = ()
    scored_on: tuple[SplitName, ...] = ()
    more: Callable[[Recipe], tuple[str, ...]] = lambda recipe: ()


@dataclass(frozen=True)
class Kept:
    """What the content of a stage's folder belongs to, where that is less than all that the stage reads.

    Attributes:
        reads: Besides what the stages before it have made.
        pattern: Of the text whose hash is the key of the folder; ``{}`` is the key of what is read.
    """

    reads: Reads
    pattern: str


@dataclass(frozen=True)
class Stage:
    """One step of a run; it takes what the stages before it left in the run folder.

    Attributes:
        name: Of the stage, and of its folder.
        run: Makes the outcome; returns what it has measured of it, by name.
        reads: What the outcome depends on besides the stages before.
        outputs: Files in its folder that later stages or users take; not every recipe makes all of them.
        needed: Whether the stages after it need it, under a recipe.
        refusal: Why a recipe does not let the stage be made by itself, in one line; None if it does.
        renewed: Whether it is made again where one of its outputs is missing.
        shared: Whether several processes can make it together.
        training: Where a recipe says how it trains, like ``teacher.schedule``; empty if it trains nothing.
        kept: What the content of its folder belongs to under a recipe, where that is not all that the stage reads.
    """

    name: str
    run: Callable[[Run, Report | None], dict[str, float]]
    reads: Reads
    outputs: tuple[str, ...]
    needed: Callable[[Recipe], bool] = lambda recipe: True
    refusal: Callable[[Recipe], str | None] = lambda recipe: None
    renewed: bool = False
    shared: bool = False
    training: str = ""
    kept: Callable[[Recipe], Kept] | None = None

    def schedule(self, recipe: Recipe) -> Schedule | SegmenterRecipe | None:
        """How a recipe has it trained; None if it trains nothing, or is no stage of that recipe."""
        found: object = attrgetter(self.training)(recipe) if self.training else None
        assert found is None or isinstance(found, Schedule | SegmenterRecipe)
        return found
