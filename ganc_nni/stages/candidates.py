"""The networks that a search scores, by their widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ganc_nni.core.widths import Widths
from ganc_nni.generators import Generator
from ganc_nni.run import Run
from ganc_nni.stages.warm_start import reconstructing
from ganc_nni.supernet.sampling import activate

Candidates: TypeAlias = Callable[[Widths], Generator]
"""Gives the network of a sample, on the run's device; it is good until the next one is asked for."""


def candidates_of(run: Run) -> Candidates:
    """The sub-generators of the trained supernet, or reconstructed ones, as ``search.weights`` says."""
    return reconstructing(run) if run.recipe.search.weights == "reconstructed" else of_supernet(run.load_supernet())


def of_supernet(supernet: Generator) -> Candidates:
    """The sub-generators of a supernet, which becomes each of them in turn."""

    def network(widths: Widths) -> Generator:
        activate(supernet, widths)
        return supernet

    return network
