"""Latency tables with drawn numbers, for tests of what reads them."""

import random

from tiny import SIZE

from ganc_nni.cost.blocks import find_blocks
from ganc_nni.cost.decomposed import combinations
from ganc_nni.cost.latency_table import BlockTimes, LatencyTable
from ganc_nni.generators.resnet import ResnetConfig

BLUEPRINT = ResnetConfig(n_blocks=3, separable=True)


def table_of(space, seed, **changes):
    """A table of the tiny student in which no time has to do with another."""
    draw = random.Random(seed)
    content = {
        "device": "a clock of wood",
        "clock": "drawn",
        "torch": "none",
        "threads": 1,
        "batch": 1,
        "image_size": SIZE,
        "blueprint": BLUEPRINT,
        "space": space.choices,
        "repeats": 1,
        "date": "2026-01-01T00:00:00+00:00",
        "comparisons": (),
        "median_error_percent": 0,
        "largest_error_percent": 0,
    }
    blocks = tuple(
        BlockTimes(
            parts=block.parts,
            labels=block.labels,
            ms={
                "_".join(map(str, key)): round(draw.uniform(0.1, 2), 6)
                for key in combinations(block.labels, space.choices)
            },
        )
        for block in find_blocks(BLUEPRINT, space, SIZE)
    )
    return LatencyTable(**{**content, "blocks": blocks, **changes})
