import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ganc_nni.data.encoding import IGNORE_ID, decode
from ganc_nni.data.procedural import (
    Kind,
    ProceduralImages,
    ProceduralLabels,
    draw_filled,
    draw_lines,
    label_map,
    scene,
)

sizes = st.tuples(st.integers(16, 80), st.integers(16, 80))


@given(seed=st.integers(-5, 2**31), number=st.integers(0, 10**6), size=sizes)
def test_a_scene_holds_two_to_four_apart_shapes_inside_the_image(seed: int, number: int, size: tuple[int, int]) -> None:
    shapes = scene(seed, number, size)
    assert 2 <= len(shapes) <= 4
    assert scene(seed, number, size) == shapes
    for one, other in itertools.combinations(shapes, 2):
        assert math.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius
    for shape in shapes:
        corners = shape.outline()
        assert (corners >= 0).all()
        assert (corners <= np.array([size[1], size[0]])).all()


def test_all_kinds_and_counts_occur() -> None:
    scenes = [scene(0, number, (64, 64)) for number in range(60)]
    assert {len(shapes) for shapes in scenes} == {2, 3, 4}
    assert {shape.kind for shapes in scenes for shape in shapes} == {"circle", "rectangle", "triangle"}


@pytest.mark.parametrize("domain", ["A", "B"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (24, 56)])
def test_items_are_images_in_range_and_always_the_same(domain: str, channels: int, size: tuple[int, int]) -> None:
    images = ProceduralImages(domain, range(3), channels, size, seed=1)
    again = ProceduralImages(domain, range(3), channels, size, seed=1)
    assert len(images) == 3
    for one, other in zip(images, again, strict=True):
        assert one.shape == (channels, *size)
        assert -1 <= one.min() < one.max() <= 1
        assert torch.equal(one, other)
    assert images.digest() == again.digest()


def test_the_digest_tells_scenes_domains_seeds_and_channels_apart() -> None:
    digests = {
        ProceduralImages(domain, scenes, channels, (32, 32), seed).digest()
        for domain in ("A", "B")
        for scenes in (range(2), range(1, 3))
        for channels in (1, 3)
        for seed in (0, 1)
    }
    assert len(digests) == 16


def test_a_image_depends_on_its_number_and_not_on_its_neighbours() -> None:
    few = ProceduralImages("B", [7], 3, (32, 32), seed=0)
    many = ProceduralImages("B", range(10), 3, (32, 32), seed=0)
    assert torch.equal(few[0], many[7])
    assert few.names == ("scene_00007.png",) == many.names[7:8]


def test_pairs_show_the_same_scene() -> None:
    a = ProceduralImages("A", range(12), 3, (64, 64), seed=3)
    b = ProceduralImages("B", range(12), 3, (64, 64), seed=3)
    for number in range(12):
        vivid = (b[number].max(0).values - b[number].min(0).values) > 0.6
        for shape in scene(3, number, (64, 64)):
            assert vivid[int(shape.y), int(shape.x)]  # filled in B ...
            assert a[number][:, int(shape.y), int(shape.x)].min() > 0.8  # ... paper in A ...
            for x, y in shape.outline():  # ... inside a dark outline
                row, column = int(y), int(x)
                assert a[number][:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].min() < 0


def test_every_kind_has_its_own_colour() -> None:
    strongest: dict[str, set[int]] = {}
    for number in range(40):
        shapes = scene(0, number, (64, 64))
        image = np.array(draw_filled(shapes, (64, 64)))
        for shape in shapes:
            strongest.setdefault(shape.kind, set()).add(int(image[int(shape.y), int(shape.x)].argmax()))
    assert strongest == {"circle": {0}, "triangle": {1}, "rectangle": {2}}


@pytest.mark.parametrize("draw", [draw_lines, draw_filled])
def test_a_mirrored_scene_draws_the_mirrored_image(draw: Callable[..., Image.Image]) -> None:
    for number in range(8):
        shapes = scene(1, number, (64, 64))
        mirrored = [replace(shape, x=64 - shape.x, angle=-shape.angle) for shape in shapes]
        difference = np.array(draw(mirrored, (64, 64))).astype(float) - np.array(
            ImageOps.mirror(draw(shapes, (64, 64)))
        )
        assert np.abs(difference).mean() < 3  # the rest is how Pillow rounds edges


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("instances", [False, True])
def test_label_maps_show_the_kind_of_each_shape(void: bool, instances: bool) -> None:
    maps = ProceduralLabels(range(10), (64, 48), void, instances, seed=3)
    assert maps.names == ProceduralImages("B", range(10), 3, (64, 48), seed=3).names
    assert maps.channels == 4 + void + instances
    for number, item in enumerate(maps):
        assert item.shape == (maps.channels, 64, 48)
        assert torch.equal(item[: 4 + void].sum(0), torch.ones(64, 48))
        ids = maps.ids(number)
        assert torch.equal(decode(item, 4), ids)
        assert (IGNORE_ID in ids) == void
        shapes = scene(3, number, (64, 48))
        for shape in shapes:
            row, column = int(shape.y), int(shape.x)
            assert ids[row, column] == 1 + get_args(Kind).index(shape.kind)
            assert not instances or item[-1, row, column] == 0
        assert set(ids.unique().tolist()) - {0, IGNORE_ID} == {1 + get_args(Kind).index(s.kind) for s in shapes}
        assert ids[0, 0] == 0
    again = ProceduralLabels(range(10), (64, 48), void, instances, seed=3)
    assert again.digest() == maps.digest()
    assert torch.equal(again[4], maps[4])


def test_label_maps_and_images_show_the_same_scene() -> None:
    maps = ProceduralLabels(range(12), (64, 64), True, False, seed=3)
    images = ProceduralImages("B", range(12), 3, (64, 64), seed=3)
    for number in range(12):
        vivid = images[number].max(0).values - images[number].min(0).values
        ids = maps.ids(number)
        assert vivid[(ids > 0) & (ids < IGNORE_ID)].mean() > 0.8
        assert vivid[ids == 0].max() < 0.6


def test_every_shape_is_an_instance() -> None:
    for number in range(12):
        shapes = scene(3, number, (64, 64))
        classes, numbers, partial = label_map(shapes, (64, 64))
        assert np.array_equal(classes > 0, numbers > 0)
        assert set(np.unique(numbers)) == set(range(len(shapes) + 1))
        assert set(np.unique(partial)) == {0, 1}
        for place, shape in enumerate(shapes, start=1):
            assert numbers[int(shape.y), int(shape.x)] == place


def test_the_digest_of_label_maps_tells_options_apart() -> None:
    digests = {
        ProceduralLabels(scenes, (32, 32), void, instances, seed).digest()
        for scenes in (range(2), range(1, 3))
        for void in (False, True)
        for instances in (False, True)
        for seed in (0, 1)
    }
    assert len(digests) == 16
