"""The weights of a sub-generator in closed form: each convolution does again what the teacher's does.

Where channels are dropped, what a convolution reads has changed. Channel pruning (arXiv 1707.06168, equation 4) solves
one convolution after another by least squares: from the inputs that the small network really has, it shall make the
teacher's own outputs, here those before the norm on the channels that are kept. No gradient, no target images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.torch_functions import FunctionMode
from ganc_nni.generators import Generator
from ganc_nni.supernet.inherit import CONVOLUTIONS, ChannelOrder, along, arguments_of, separated

RIDGE = 0.3
"""How much a change of a weight costs, in units of the mean square of what the weight reads."""

SAMPLES = 10
"""Pixels for each unknown of an output channel; more change nothing but the time (benchmarks/warm_start.py)."""

LEAST = 4096
"""Pixels at least, for all unknowns together."""


@torch.no_grad()
def reconstruct(
    student: Generator, teacher: Generator, order: ChannelOrder, images: Sequence[Tensor], ridge: float = RIDGE
) -> None:
    """Solve the convolutions of one ``student``; see :class:`Reconstruction`, which does it for several."""
    Reconstruction(teacher, order, images, student, ridge).solve(student)


class Reconstruction:
    """Solves the convolutions of any number of networks from one teacher, and computes once what they share.

    They share the images and the teacher's outputs, which are taken once, at those pixels alone at which the widest
    network is solved. Two networks share all convolutions up to the first one whose shapes differ: up to there the
    second reads what the first has read. So solved weights are kept, by the shapes on the way to them.

    Args:
        teacher: Stays as it is.
        order: The channels that the networks take, see :func:`~ganc_nni.supernet.inherit.channel_order`.
        images: Inputs, ``N x C x H x W`` each; a few are enough.
        widest: A network that is at least as wide in each layer as all that shall be solved; stays as it is.
        ridge: See :data:`RIDGE`.
        samples: See :data:`SAMPLES`.
    """

    @torch.no_grad()
    def __init__(
        self,
        teacher: Generator,
        order: ChannelOrder,
        images: Sequence[Tensor],
        widest: Generator,
        ridge: float = RIDGE,
        samples: int = SAMPLES,
    ) -> None:
        order = order.fitting(widest)
        self._apart = separated(widest.state_dict(), teacher.state_dict())
        self._ridge = ridge
        self._samples = samples
        self._inputs = torch.cat(list(images))
        self._solved: dict[_Path, tuple[Tensor, Tensor | None]] = {}
        names = {name: name for name, _ in widest.named_parameters()}
        names |= {f"{layer}.weight": f"{layer}.conv.2.weight" for layer in self._apart}
        kept = _Kept(teacher, widest, names, order, _Pixels(len(self._inputs), samples))
        for batch in images:
            with FasterKernels(), kept:
                teacher(batch)
        self._targets = kept.outputs

    @torch.no_grad()
    def solve(self, student: Generator) -> None:
        """Solve the convolutions of ``student`` in the order of computation, and measure its batch norms.

        A weight that the images do not determine stays near to its value, the teacher's own. Of a separable
        convolution in place of a full one the depthwise filters stay, and the pointwise convolution makes the full
        one's outputs.

        Args:
            student: A network of plain torch layers that has inherited from the teacher in the order; changed in
                place. Layers that the teacher does not have stay as they are. Channels that the teacher does not have
                have to begin alike in all networks.
        """
        student.eval()
        pixels = _Pixels(len(self._inputs), self._samples)
        with FasterKernels(), _Solver(student, self._targets, self._solved, pixels, self._ridge, self._apart):
            student(self._inputs)


_Path = tuple[torch.Size, ...]
"""Shapes of the weights that have been solved, in the order of computation."""


class _Target(NamedTuple):
    """What a phase of a convolution shall put out.

    Attributes:
        size: Height and width of the phase's output.
        outputs: For each image, at some pixels, ``channels x pixels``.
    """

    size: tuple[int, int]
    outputs: list[Tensor]


_Targets = list[_Target]
"""Those of all phases."""


class _Pixels(NamedTuple):
    """At which pixels convolutions are solved: the first ones of an order that depends on image and phase alone.

    Attributes:
        images: Number of images.
        samples: See :data:`SAMPLES`.
    """

    images: int
    samples: int

    def of(self, image: int, phase: int, count: int, unknowns: int) -> Tensor:
        """Numbers of pixels, of ``count`` that a phase has in an image."""
        wanted = -(-max(self.samples * unknowns, LEAST) // self.images)
        random = torch.Generator().manual_seed(image << 16 | phase)
        return torch.randperm(count, generator=random)[:wanted]


class _Kept(FunctionMode):
    """Keeps what the teacher's convolutions put out, of the channels that the widest student has.

    Attributes:
        outputs: The targets of each of the student's weights, by name.
    """

    def __init__(
        self,
        teacher: nn.Module,
        widest: nn.Module,
        solved: Mapping[str, str],
        order: ChannelOrder,
        pixels: _Pixels,
    ) -> None:
        super().__init__()
        self._solved = solved
        self._names = {id(parameter): name for name, parameter in teacher.named_parameters()}
        self._shapes = {name: parameter.shape for name, parameter in widest.named_parameters()}
        self._order = order
        self._pixels = pixels
        self.outputs: dict[str, _Targets] = {}

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """See the base class."""
        result = function(*arguments, **options)
        if function in CONVOLUTIONS:
            named = arguments_of(function, arguments, options)
            name = self._names.get(id(named["weight"]), "")
            if name in self._solved:
                transposed, shape = function is F.conv_transpose2d, self._shapes[self._solved[name]]
                axis = 1 if transposed else 0
                channels = self._order.axes[name][axis][: shape[axis]].to(result.device)
                kept = result[:, channels]
                if (sign := self._order.factors.get(name, {}).get(axis)) is not None:
                    kept = kept * along(1, sign.to(result.device)[channels], kept)
                targets = self.outputs.setdefault(self._solved[name], [])
                _pick(transposed, named, shape, kept, self._pixels, targets)
        return result


def _pick(
    transposed: bool,
    named: Mapping[str, Any],
    shape: torch.Size,
    y: Tensor,
    pixels: _Pixels,
    targets: _Targets,
) -> None:
    """Append what a convolution has put out, at some pixels, to ``targets``.

    Args:
        transposed: Whether it is a transposed one.
        named: Its arguments.
        shape: Of the weight that is to be solved, which is not the convolution's own if that is a full one in place of
            a separable one.
        y: What it has put out, ``N x C x H x W``.
        pixels: At which.
        targets: Of the images before.
    """
    for number, phase in enumerate(_phases(transposed, {**named, "weight": torch.empty(shape, device="meta")})):
        part = phase.of(y)
        if number == len(targets):
            targets.append(_Target((part.shape[2], part.shape[3]), []))
        outputs, unknowns = targets[number].outputs, shape[1 - int(transposed)] * len(phase.taps)
        for each in part.flatten(2):
            chosen = pixels.of(len(outputs), number, each.shape[1], unknowns).to(y.device)
            outputs.append(each[:, chosen])


class _Solver(FunctionMode):
    """Solves each convolution when it is asked to compute, so that the next one reads what it then puts out."""

    def __init__(
        self,
        student: nn.Module,
        targets: Mapping[str, _Targets],
        solved: dict[_Path, tuple[Tensor, Tensor | None]],
        pixels: _Pixels,
        ridge: float,
        apart: Sequence[str],
    ) -> None:
        super().__init__()
        parameters = dict(student.named_parameters())
        pairs = [(parameters[f"{layer}.conv.0.weight"], parameters[f"{layer}.conv.2.weight"]) for layer in apart]
        self._pointwise = {id(depthwise): pointwise for depthwise, pointwise in pairs}
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._targets = dict(targets)
        self._solved = solved
        self._path: _Path = ()
        self._pixels = pixels
        self._ridge = ridge

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """See the base class."""
        if function is F.batch_norm:
            _measure(*arguments[:3])
        elif function in CONVOLUTIONS:
            named = arguments_of(function, arguments, options)
            targets = self._targets.pop(self._names.get(id(named["weight"]), ""), None)
            if targets is not None:
                self._solve(function is F.conv_transpose2d, named, targets)
            if (pointwise := self._pointwise.get(id(named["weight"]))) is not None:
                y = function(*arguments, **options)
                pointwise.mul_(y.std((2, 3)).mean(0)[:, None, None])  # the norm in between divides by it
                return y
        return function(*arguments, **options)

    def _solve(self, transposed: bool, named: Mapping[str, Any], targets: _Targets) -> None:
        """Solve a convolution, or take what has been solved on the same way."""
        weight, bias = named["weight"], named.get("bias")
        self._path = (*self._path, weight.shape)
        if (known := self._solved.get(self._path)) is None:
            with torch._C.DisableTorchFunction():  # other modes need not look at each operation
                _solve(transposed, named, targets, self._pixels, self._ridge)
            self._solved[self._path] = weight.clone(), None if bias is None else bias.clone()
            return
        weight.copy_(known[0])
        if bias is not None and known[1] is not None:
            bias.copy_(known[1])


def _measure(x: Tensor, mean: Tensor | None, variance: Tensor | None) -> None:
    """Let a batch norm have the statistics of ``x``, ``N x C x H x W``."""
    if mean is not None and variance is not None:
        var, average = torch.var_mean(x, (0, 2, 3))
        mean.copy_(average)
        variance.copy_(var)


@dataclass(frozen=True)
class _Phase:
    """The output pixels of a convolution that meet the same taps of its kernel: all, or every other one of each side.

    Attributes:
        taps: Which these are of the flattened kernel.
        first: The first of the pixels, row and column.
        step: From one of the pixels to the next.
        offsets: For each tap the row and column of the input that it meets at the first pixel, ``taps x 2``.
        stride: How far that moves from one of the pixels to the next.
    """

    taps: list[int]
    first: tuple[int, int]
    step: tuple[int, int]
    offsets: Tensor
    stride: tuple[int, int]

    def of(self, y: Tensor) -> Tensor:
        """The pixels of ``N x C x H x W`` that belong to it."""
        return y[..., self.first[0] :: self.step[0], self.first[1] :: self.step[1]]


def _phases(transposed: bool, named: Mapping[str, Any]) -> Iterator[_Phase]:
    kernel = named["weight"].shape[2:]
    stride, padding, dilation = (_pair(named.get(key, usual)) for key, usual in _USUAL.items())
    steps = stride if transposed else (1, 1)
    for first in itertools.product(*map(range, steps)):
        sides = []
        for side in (0, 1):
            if transposed:  # output pixel o meets input pixel i where o = stride * i - padding + dilation * tap
                met = [(tap, first[side] + padding[side] - dilation[side] * tap) for tap in range(kernel[side])]
                sides.append([(tap, at // stride[side]) for tap, at in met if at % stride[side] == 0])
            else:
                sides.append([(tap, dilation[side] * tap - padding[side]) for tap in range(kernel[side])])
        pairs = list(itertools.product(*sides))
        taps = [row * kernel[1] + column for (row, _), (column, _) in pairs]
        if pairs:
            offsets = torch.tensor([(row, column) for (_, row), (_, column) in pairs])
            yield _Phase(taps, (first[0], first[1]), steps, offsets, (1, 1) if transposed else stride)


_USUAL = {"stride": 1, "padding": 0, "dilation": 1}


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _solve(transposed: bool, named: Mapping[str, Any], targets: _Targets, pixels: _Pixels, ridge: float) -> None:
    """Change weight and bias of a convolution so that its input makes ``targets``.

    Of the changes d of the weights and b of the bias those are taken that minimise
    ``|A d + b - r|^2 + ridge * |d|^2``: A is what the kernel meets at a pixel, r what the weights as they are leave
    of the target there. The sums over pixels are taken image by image, in float64. The bias is what all phases of a
    transposed convolution have in common.
    """
    x, weight, bias, groups = named["input"], named["weight"], named.get("bias"), named.get("groups", 1)
    # a student that is wider than its teacher keeps its other channels as they are
    width = min(len(targets[0].outputs[0]), weight.shape[int(transposed)])
    if groups > 1 and (transposed or width < len(weight)):
        return
    rows = weight.transpose(0, 1).flatten(2) if transposed else weight.flatten(2)  # out x in / groups x taps
    rows = rows[:width].to(torch.float64, copy=True)
    outputs = width // groups
    solved: list[tuple[_Phase, Tensor, Tensor]] = []
    count, rest = 0.0, torch.zeros(groups, 1, outputs, dtype=torch.float64, device=x.device)
    for number, phase in enumerate(_phases(transposed, named)):
        now = rows[..., phase.taps].reshape(groups, outputs, -1)
        offset = bias[:width].double().view(groups, outputs, 1) if bias is not None else None
        sums = _sums(x, targets[number], number, phase, now, offset, pixels)
        gram = sums.gram + (ridge * sums.gram.diagonal(dim1=1, dim2=2).mean(1) + _TINY)[:, None, None] * torch.eye(
            sums.gram.shape[1], dtype=torch.float64, device=x.device
        )
        inverse = torch.linalg.solve(gram, torch.cat((sums.cross, sums.inputs), 2))
        by_target, by_bias = inverse[..., :-1], inverse[..., -1:]
        solved.append((phase, by_target, by_bias))
        count = count + sums.pixels - (sums.inputs * by_bias).sum((1, 2), keepdim=True)
        rest = rest + sums.residuals - (sums.inputs * by_target).sum(1, keepdim=True)
    shift = torch.zeros_like(rest) if bias is None else rest / (count + _TINY)
    for phase, by_target, by_bias in solved:
        change = (by_target - by_bias * shift).transpose(1, 2)  # groups x outputs x (in / groups * taps)
        rows[..., phase.taps] += change.reshape(width, -1, len(phase.taps))
    kernel = rows.unflatten(2, weight.shape[2:]).to(weight)
    if transposed:
        weight[:, :width] = kernel.transpose(0, 1)
    else:
        weight[:width] = kernel
    if bias is not None:
        bias[:width] += shift.flatten().to(bias)


_TINY = 1e-12


class _Sums(NamedTuple):
    """Over pixels, for each group: A'A, A'r, A'1, 1'r and 1'1."""

    gram: Tensor
    cross: Tensor
    inputs: Tensor
    residuals: Tensor
    pixels: int


def _sums(
    x: Tensor, target: _Target, number: int, phase: _Phase, now: Tensor, bias: Tensor | None, pixels: _Pixels
) -> _Sums:
    groups, outputs, unknowns = now.shape
    options: Any = {"dtype": torch.float64, "device": x.device}
    gram, cross = torch.zeros(groups, unknowns, unknowns, **options), torch.zeros(groups, unknowns, outputs, **options)
    inputs, residuals = torch.zeros(groups, unknowns, 1, **options), torch.zeros(groups, 1, outputs, **options)
    count = 0
    for index, (image, wish) in enumerate(zip(x, target.outputs, strict=True)):
        chosen = pixels.of(index, number, target.size[0] * target.size[1], unknowns)
        seen = _seen(image, phase, chosen, target.size[1]).double().view(groups, unknowns, -1)
        left = wish[: groups * outputs, : len(chosen)].double().view(groups, outputs, -1) - now @ seen
        if bias is not None:
            left = left - bias
        gram += seen @ seen.transpose(1, 2)
        cross += seen @ left.transpose(1, 2)
        inputs += seen.sum(2, keepdim=True)
        residuals += left.sum(2)[:, None]
        count += len(chosen)
    return _Sums(gram, cross, inputs, residuals, count)


def _seen(image: Tensor, phase: _Phase, pixels: Tensor, width: int) -> Tensor:
    """What the taps of a phase meet at some of its pixels, ``in_channels x taps x pixels``; zero outside the image."""
    rows = phase.offsets[:, :1] + phase.stride[0] * (pixels // width)
    columns = phase.offsets[:, 1:] + phase.stride[1] * (pixels % width)
    low = [max(0, -int(each.min())) for each in (rows, columns)]
    high = [max(0, int(each.max()) + 1 - side) for each, side in zip((rows, columns), image.shape[1:], strict=True)]
    padded = F.pad(image, (low[1], high[1], low[0], high[0]))
    return padded[:, (rows + low[0]).to(image.device), (columns + low[1]).to(image.device)]
