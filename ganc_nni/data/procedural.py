"""The embedded data set: line drawings (domain A) or label maps, and such scenes filled with colour (domain B).

Every image is drawn in process from its number, so a fresh machine needs no files and no download. A scene holds
two to four circles, rectangles and triangles that do not overlap. Each kind has its own colour and texture, so the
filled scene can be told from the drawing alone. Light falls from straight above and textures are symmetric: a
mirrored pair is again a pair that the data set could have held.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ganc_nni.data.decoding import Channels
from ganc_nni.data.encoding import IGNORE_ID
from ganc_nni.data.image_sets import ImageSet
from ganc_nni.data.label_files import Bytes
from ganc_nni.data.labels import LabelMaps
from ganc_nni.data.transforms import Size
from ganc_nni.recipe import PROCEDURAL_CLASSES

Domain = Literal["A", "B"]
Kind = Literal["circle", "rectangle", "triangle"]
Floats = npt.NDArray[np.float64]

_PAPER = np.array([247.0, 244.0, 236.0])
_INK = np.array([42.0, 44.0, 58.0])
_SKY = (np.array([214.0, 232.0, 247.0]), np.array([250.0, 232.0, 214.0]))  # top, bottom


@dataclass(frozen=True)
class Shape:
    """One shape of a scene, in pixels and radians.

    Attributes:
        kind: Decides the outline and, in domain B, colour and texture.
        x: Centre, from the left.
        y: Centre, from the top.
        radius: Of the circle around it.
        angle: Clockwise turn.
        aspect: Height over width of a rectangle, below 1 so that its long axis shows; others ignore it.
    """

    kind: Kind
    x: float
    y: float
    radius: float
    angle: float
    aspect: float

    def outline(self) -> Floats:
        """The corners, ``n x 2`` (x, y) pixels."""
        if self.kind == "rectangle":
            corner = np.arctan(self.aspect)
            turns = np.array([corner, np.pi - corner, np.pi + corner, -corner])
        else:
            corners = 3 if self.kind == "triangle" else 72
            turns = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
        turns = turns + self.angle
        return np.stack([self.x + self.radius * np.cos(turns), self.y + self.radius * np.sin(turns)], axis=1)


def scene(seed: int, number: int, size: Size) -> list[Shape]:
    """The shapes of one scene; depends on the arguments only.

    Args:
        seed: Any integer.
        number: Which scene, from 0.
        size: Height and width, pixels.
    """
    rng = np.random.default_rng([seed % 2**64, number])  # numpy takes no negative seed
    height, width = size
    short = min(size)
    shapes: list[Shape] = []
    wanted = int(rng.integers(2, 5))
    for attempt in range(200):
        # shapes that find no room get smaller
        radius = short * rng.uniform(0.15, 0.27) * 0.99**attempt
        margin = 1.08 * radius
        shape = Shape(
            kind=get_args(Kind)[rng.integers(3)],
            x=rng.uniform(margin, width - margin),
            y=rng.uniform(margin, height - margin),
            radius=radius,
            angle=rng.uniform(-0.5, 0.5),
            aspect=rng.uniform(0.55, 0.85),
        )
        if all(np.hypot(shape.x - s.x, shape.y - s.y) > 1.08 * (radius + s.radius) for s in shapes):
            shapes.append(shape)
        if len(shapes) == wanted:
            break
    return shapes


def draw_lines(shapes: Sequence[Shape], size: Size) -> Image.Image:
    """Domain A: thin dark outlines on light paper, RGB of (height, width) ``size``."""
    canvas = np.broadcast_to(_PAPER, (*size, 3))
    thickness = max(1.4, min(size) / 50)
    for shape in shapes:
        ink = _as_array(_coverage(shape, size, thickness))
        canvas = canvas + ink * (_INK - canvas)
    return _as_image(canvas)


def draw_filled(shapes: Sequence[Shape], size: Size) -> Image.Image:
    """Domain B: coloured and shaded shapes on a soft gradient, RGB of (height, width) ``size``."""
    height, width = size
    down = np.linspace(0, 1, height)[:, None, None]
    canvas = np.broadcast_to(_SKY[0] + down * (_SKY[1] - _SKY[0]), (height, width, 3))
    for shape in shapes:
        cover = _coverage(shape, size)
        drop = max(1, round(shape.radius * 0.16))
        shadow = Image.new("L", cover.size)
        shadow.paste(cover, (0, drop))
        shadow = shadow.filter(ImageFilter.GaussianBlur(shape.radius * 0.14))
        canvas = canvas * (1 - 0.35 * _as_array(shadow))
        canvas = canvas + _as_array(cover) * (_surface(shape, size) - canvas)
    return _as_image(canvas)


def label_map(shapes: Sequence[Shape], size: Size) -> tuple[Bytes, Bytes, Bytes]:
    """The scene as ids, each ``H x W`` of (height, width) ``size``.

    Returns:
        Class of each pixel (0: background, then the kinds in the order of :data:`Kind`), number of its shape (0:
        background, then from 1), and 1 where a shape covers only a part of the pixel.
    """
    classes, numbers, partial = (np.zeros(size, dtype=np.uint8) for _ in range(3))
    for number, shape in enumerate(shapes, start=1):
        cover = np.asarray(_coverage(shape, size))
        inside = cover >= 128
        classes[inside] = 1 + get_args(Kind).index(shape.kind)
        numbers[inside] = number
        partial[(cover > 0) & (cover < 255)] = 1
    return classes, numbers, partial


def _coverage(shape: Shape, size: Size, thickness: float | None = None) -> Image.Image:
    """How much of each pixel the shape covers (or its outline of that thickness, pixels): mode L, 255 is all."""
    height, width = size
    fine = 4 if min(size) < 128 else 2  # large images hide jagged edges well enough
    large = Image.new("L", (width * fine, height * fine))
    points = [(float(x), float(y)) for x, y in shape.outline() * fine]
    draw = ImageDraw.Draw(large)
    if thickness is None:
        draw.polygon(points, fill=255)
    else:
        # the second corner once more, so that the first one gets its joint too
        draw.line([*points, *points[:2]], fill=255, width=round(thickness * fine), joint="curve")
    return large.reduce(fine)


def _surface(shape: Shape, size: Size) -> Floats:
    """Colour of the shape at every pixel, ``H x W x 3`` in 0 to 255."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    right, below = (columns + 0.5 - shape.x) / shape.radius, (rows + 0.5 - shape.y) / shape.radius
    if shape.kind == "circle":
        # a ball under a lamp: brightest a little above the middle
        mix = np.clip(np.hypot(right, below + 0.4) / 1.4, 0, 1) ** 1.3
        colours = (255.0, 214.0, 110.0), (226.0, 82.0, 12.0)
    elif shape.kind == "rectangle":
        # stripes across its own long axis, symmetric about the middle
        along = right * np.cos(shape.angle) + below * np.sin(shape.angle)
        mix = np.clip(0.5 + 1.5 * np.cos(along * 2 * np.pi / 0.62), 0, 1)
        colours = (112.0, 178.0, 255.0), (24.0, 70.0, 196.0)
    else:
        mix = np.clip((below + 0.9) / 1.6, 0, 1)
        colours = (190.0, 240.0, 96.0), (6.0, 122.0, 70.0)
    near, far = np.array(colours)
    return np.asarray(near + mix[:, :, None] * (far - near))


def _as_array(coverage: Image.Image) -> Floats:
    return np.asarray(coverage, dtype=np.float64)[:, :, None] / 255


def _as_image(canvas: Floats) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(canvas, 0, 255)).astype(np.uint8))


class ProceduralImages(ImageSet):
    """Scenes of one domain, drawn when first used and then kept; item i is ``C x H x W`` in [-1, 1].

    Args:
        domain: A: line drawings, B: filled.
        scenes: Number of each scene; the same number gives the same scene in both domains.
        channels: 1: grey, 3: RGB.
        size: Height and width, pixels.
        seed: Any integer; another seed gives other scenes.
    """

    def __init__(self, domain: Domain, scenes: Sequence[int], channels: Channels, size: Size, seed: int) -> None:
        super().__init__([f"scene_{number:05d}.png" for number in scenes], channels, size, cache=True)
        self.domain = domain
        self.scenes = tuple(scenes)
        self.seed = seed

    def _read(self, index: int) -> Image.Image:
        shapes = scene(self.seed, self.scenes[index], self.size)
        drawn = draw_lines(shapes, self.size) if self.domain == "A" else draw_filled(shapes, self.size)
        return drawn.convert("L") if self.channels == 1 else drawn

    def content_paths(self) -> tuple[Path, ...]:
        """None: they are drawn."""
        return ()

    def _content(self, index: int) -> bytes:
        # the pixels, not the arguments: a change of the drawing code must change the digest too
        return self.image(index).tobytes()


class ProceduralLabels(LabelMaps):
    """Label maps of the scenes whose images are domain B of :class:`ProceduralImages`; always the same.

    Four classes: background and the three kinds of shape; each shape is an instance.

    Args:
        scenes: Number of each scene.
        size: Height and width, pixels.
        void: Whether pixels that a shape covers only in part are void.
        instances: Whether the last channel shows the boundaries of instances.
        seed: Any integer; another seed gives other scenes.
    """

    def __init__(self, scenes: Sequence[int], size: Size, void: bool, instances: bool, seed: int) -> None:
        names = [f"scene_{number:05d}.png" for number in scenes]
        super().__init__(names, PROCEDURAL_CLASSES, void, instances, size, cache=True)
        self.scenes = tuple(scenes)
        self.seed = seed

    def _labels(self, index: int) -> Bytes:
        classes, _, partial = self._map(index)
        return np.where(partial == 1, np.uint8(IGNORE_ID), classes) if self.void else classes

    def _numbers(self, index: int) -> Bytes:
        return self._map(index)[1]

    def _map(self, index: int) -> tuple[Bytes, Bytes, Bytes]:
        return label_map(scene(self.seed, self.scenes[index], self.size), self.size)

    def content_paths(self) -> tuple[Path, ...]:
        """None: they are drawn."""
        return ()

    def _content(self, index: int) -> bytes:
        return self.image(index).tobytes()
