"""The student starts from the teacher's weights, most important channels first (GAN Compression, 2003.08936, 3.1).

A sub-generator computes with the first channels of each layer, so these should be the ones that matter. Which channels
have to move together is read from the teacher at work: two activations that are added share one order, and so do the
two sides of a norm or a depthwise convolution. A family needs no code of its own for that.

A teacher's instance norms may have a scale and a shift, a student's have none. A scale s goes into the weights that
read the channel, ``relu(s n) = |s| relu(sign(s) n)``, and its sign into the convolution before the norm. That is exact
after one norm; where several are added up, as in residual blocks, the mean of their scales is taken. A shift that no
ReLU follows is removed by the next norm; another one is left out, for reconstruction and training to make up for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.torch_functions import FunctionMode
from ganc_nni.generators import Generator

CONVOLUTIONS = {
    F.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    F.conv_transpose2d: ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
}
"""The convolutions that generators are made of, with the names of their arguments."""

_SUMS = {f"__{sign}{name}__" for name in ("add", "sub", "mul") for sign in ("", "r", "i")} | {"add", "sub", "mul"}
_HOMOGENEOUS = {"relu", "relu_", "leaky_relu", "leaky_relu_", "contiguous", "pad", "interpolate"} | {
    name for name in _SUMS if "mul" not in name
}
"""Functions of which s times the input, s > 0, makes s times the output."""
_POINTWISE = {"relu", "relu_", "leaky_relu", "leaky_relu_", "tanh", "sigmoid", "clamp", "contiguous"}
CHANNELWISE = frozenset(_SUMS | _POINTWISE | {"pad", "interpolate", "instance_norm", "batch_norm"})
"""Functions whose output has channel c where all their inputs have channel c. After any other, no channel moves."""


def arguments_of(function: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a convolution by name, those that are left out not included."""
    return dict(zip(CONVOLUTIONS[function], arguments, strict=False)) | dict(options)


@dataclass(frozen=True)
class ChannelOrder:
    """In which order a student takes the channels of a teacher.

    Attributes:
        axes: For each of the teacher's tensors and each axis of it that counts channels, the channels in their order,
            most important first, ``(channels,)``.
        features: The same for each distilled activation.
        norms: The teacher's instance norms with a scale, by the scale's name.
        factors: What the channels of an axis are multiplied by where the student's norms have no scale, in the
            teacher's own order.
        feature_scales: By what the teacher's channels of a distilled activation are larger than the student's then.
    """

    axes: Mapping[str, Mapping[int, Tensor]]
    features: Sequence[Tensor]
    norms: frozenset[str] = frozenset()
    factors: Mapping[str, Mapping[int, Tensor]] = field(default_factory=dict)
    feature_scales: Sequence[Tensor] = ()

    def fitting(self, student: nn.Module) -> ChannelOrder:
        """The same without factors, if the student's norms have scales of their own."""
        own = dict(student.named_parameters())
        return replace(self, factors={}) if any(name in own for name in self.norms) else self

    def sorted(self, name: str, tensor: Tensor) -> Tensor:
        """The teacher's tensor ``name`` with its channels in order."""
        for axis, factor in self.factors.get(name, {}).items():
            tensor = tensor * along(axis, factor, tensor)
        for axis, order in self.axes.get(name, {}).items():
            tensor = tensor.index_select(axis, order.to(tensor.device))
        return tensor


def along(axis: int, factor: Tensor, tensor: Tensor) -> Tensor:
    """One number for each channel, ``(channels,)``, to be multiplied with ``tensor`` along one of its axes."""
    return factor.to(tensor).view([-1 if each == axis else 1 for each in range(tensor.ndim)])


class _Trace(FunctionMode):
    """Watches a network compute and notes which channels belong together, and who reads them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.tensors = dict(itertools.chain(network.named_parameters(), network.named_buffers()))
        self._names = {id(tensor): name for name, tensor in self.tensors.items()}
        self._groups = WeakTensorKeyDictionary()
        self._parents: list[int] = []
        self._sizes: list[int] = []
        self._unmoved: set[int] = set()
        self.axes: dict[str, dict[int, int]] = {}
        self.readers: dict[str, int] = {}
        self.magnitudes: dict[str, list[Tensor]] = {}
        self._scaled = WeakTensorKeyDictionary()
        self._writers = WeakTensorKeyDictionary()
        self.writers: dict[str, tuple[str, int, str]] = {}
        self.reads: dict[str, tuple[int, tuple[str, ...]]] = {}

    def group(self, activation: Tensor) -> int:
        """The group of ``activation``'s channels; one that no function has made keeps its order."""
        if activation not in self._groups:
            self._unmoved.add(self._place(activation))
        return self.root(self._groups[activation])

    def root(self, group: int) -> int:
        """What a group is called after all unions."""
        while self._parents[group] != group:
            group = self._parents[group]
        return group

    def scales(self, activation: Tensor) -> tuple[str, ...]:
        """The scales of the norms whose outputs the activation is the sum of, as far as these have any."""
        found: tuple[str, ...] = self._scaled.get(activation, ())
        return found

    def moves(self, group: int) -> bool:
        """Whether the channels of the group may be put into another order."""
        return all(self.root(unmoved) != self.root(group) for unmoved in self._unmoved)

    def size(self, group: int) -> int:
        """Number of channels."""
        return self._sizes[self.root(group)]

    def _place(self, activation: Tensor, group: int | None = None) -> int:
        if group is None:
            group = len(self._parents)
            self._parents.append(group)
            self._sizes.append(activation.shape[1])
        self._groups[activation] = group
        return group

    def _note(self, tensor: Tensor | None, axis: int, group: int) -> None:
        """``axis`` of a tensor of the network counts the group's channels; one that is computed must not move."""
        if tensor is None:
            return
        if (name := self._names.get(id(tensor))) is None:
            self._unmoved.add(group)
            return
        known = self.axes.setdefault(name, {}).setdefault(axis, group)
        self._parents[self.root(known)] = self.root(group)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """See the base class."""
        if function in CONVOLUTIONS:
            return self._convolution(function, arguments, options)
        given = [value for value in (*arguments, *options.values()) if isinstance(value, Tensor) and value.ndim == 4]
        before = {id(value): self.group(value) for value in given} if given else {}
        homogeneous = function.__name__ in _HOMOGENEOUS
        scales = tuple(name for value in given for name in self.scales(value)) if homogeneous else ()
        if function is F.instance_norm:
            scales = self._normed(arguments[0], options.get("weight"))
        result = function(*arguments, **options)
        if isinstance(result, Tensor) and result.ndim == 4:
            self._scaled[result] = scales
        made = result if isinstance(result, tuple | list) else (result,)
        for activation in made:
            if isinstance(activation, Tensor) and before:
                self._made(function, activation, given, before, (*arguments, *options.values()))
        return result

    def _normed(self, x: Tensor, scale: Tensor | None) -> tuple[str, ...]:
        """What scales the output of an instance norm; remembers which convolution has made its input."""
        name = self._names.get(id(scale))
        if name is None:
            return ()
        if x in self._writers:
            self.writers[name] = self._writers[x]
        return (name,)

    def _made(
        self,
        function: Callable[..., Any],
        activation: Tensor,
        given: Sequence[Tensor],
        before: Mapping[int, int],
        values: Sequence[Any],
    ) -> None:
        same = activation.ndim == 4 and all(value.shape[1] == activation.shape[1] for value in given)
        if function.__name__ not in CHANNELWISE or not same:
            self._unmoved.update(before.values())
            if activation.ndim == 4:
                self._unmoved.add(self._place(activation))
            return
        first, *others = (self.root(group) for group in before.values())
        for other in others:
            self._parents[self.root(other)] = self.root(first)
        group = self._place(activation, self.root(first))
        for value in values:
            if isinstance(value, Tensor) and value.ndim == 1:  # statistics and parameters of a norm
                self._note(value, 0, group)

    def _convolution(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Tensor:
        named = arguments_of(function, arguments, options)
        x, weight, groups = named["input"], named["weight"], named.get("groups", 1)
        read = self.group(x)
        scales = self.scales(x)
        y: Tensor = function(*arguments, **options)
        depthwise = groups == x.shape[1] == y.shape[1]
        written = self._place(y, read if depthwise else None)
        if (name := self._names.get(id(weight))) is not None:
            made = 1 if function is F.conv_transpose2d and not depthwise else 0
            self._writers[y] = name, made, self._names.get(id(named.get("bias")), "")
            self.reads[name] = 0 if depthwise else 1 - made, scales
        if depthwise:
            self._scaled[y] = scales
        self._note(named.get("bias"), 0, written)
        if depthwise:
            self._note(weight, 0, written)
        elif groups > 1:
            self._unmoved.update((read, written))
        else:
            reading = 0 if function is F.conv_transpose2d else 1
            self._note(weight, reading, read)
            self._note(weight, 1 - reading, written)
            if name is not None:
                self.readers[name] = reading
                self.magnitudes.setdefault(name, []).append(x.abs().mean((0, 2, 3)))
        return y


@torch.no_grad()
def channel_order(teacher: Generator, images: Sequence[Tensor], activations: bool = True) -> ChannelOrder:
    """The teacher's channels, most important first.

    A channel is as important as the weights that read it are large (their L1 norm), times its mean magnitude there.
    Norms of the weights that write it say nothing where an instance norm follows, which divides them away.

    Args:
        teacher: Stays as it is.
        images: Inputs, ``N x C x H x W`` each; at least one.
        activations: Multiply by the magnitude.
    """
    trace = _Trace(teacher)
    for batch in images:
        with FasterKernels(), trace:
            _, features = teacher.forward_with_features(batch)
    importance: dict[int, Tensor] = {}
    for name, axis in trace.readers.items():
        weight = trace.tensors[name]
        norm = weight.abs().double().sum([each for each in range(4) if each != axis])
        if activations:
            norm = norm * torch.stack(trace.magnitudes[name]).double().mean(0)
        group = trace.root(trace.axes[name][axis])
        importance[group] = importance.get(group, torch.zeros_like(norm)) + norm

    def order(group: int) -> Tensor:
        if not trace.moves(group) or trace.root(group) not in importance:
            return torch.arange(trace.size(group))
        return torch.argsort(importance[trace.root(group)], descending=True, stable=True).cpu()

    axes = {name: {axis: order(group) for axis, group in groups.items()} for name, groups in trace.axes.items()}
    scaled = [_mean_scale(trace, trace.scales(feature), feature.shape[1]) for feature in features]
    orders = [order(trace.group(feature)) for feature in features]
    return ChannelOrder(axes, orders, frozenset(trace.writers), _factors(trace), scaled)


def _factors(trace: _Trace) -> dict[str, dict[int, Tensor]]:
    """See :attr:`ChannelOrder.factors`: signs where channels are written, scales where they are read."""
    factors: dict[str, dict[int, Tensor]] = {}
    for norm, (name, axis, bias) in trace.writers.items():
        sign = torch.where(trace.tensors[norm] < 0, -1.0, 1.0)
        factors.setdefault(name, {})[axis] = sign
        if bias:
            factors[bias] = {0: sign}
    for name, (axis, scales) in trace.reads.items():
        if scales:
            found = factors.setdefault(name, {})
            found[axis] = found.get(axis, 1) * _mean_scale(trace, scales, trace.tensors[name].shape[axis])
    return factors


def _mean_scale(trace: _Trace, scales: Sequence[str], channels: int) -> Tensor:
    if not scales:
        return torch.ones(channels)
    return torch.stack([trace.tensors[scale].detach().abs() for scale in scales]).mean(0)


@torch.no_grad()
def inherit(student: Generator, teacher: Generator, order: ChannelOrder) -> None:
    """Fill ``student``, a supernet or a network, with the teacher's weights, as many channels as it has, in order.

    A separable convolution in place of a full one gets the best rank-1 factors of each input channel's kernels. The
    norm between its two layers takes their scale away: see :func:`~ganc_nni.supernet.reconstruct.reconstruct`. What the
    student has more than the teacher stays as it is: channels, and layers that the teacher does not have.
    """
    taught, order = teacher.state_dict(), order.fitting(student)
    for layer in separated(student.state_dict(), taught):
        bias = order.sorted(f"{layer}.bias", taught[f"{layer}.bias"]) if f"{layer}.bias" in taught else None
        _separate(student.get_submodule(layer), order.sorted(f"{layer}.weight", taught[f"{layer}.weight"]), bias)
    for name, tensor in itertools.chain(student.named_parameters(), student.named_buffers()):
        if name in taught and _fits(name, tensor, taught[name], order):
            source = order.sorted(name, taught[name])
            box = tuple(slice(min(sides)) for sides in zip(tensor.shape, source.shape, strict=True))
            tensor[box] = source[box].to(tensor)


def separated(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> list[str]:
    """The layers, by name, that are a separable convolution in the student and a full one in the teacher."""
    found = []
    for name, tensor in student.items():
        layer, _, depthwise = name.rpartition(".conv.0.weight")
        full = teacher.get(f"{layer}.weight")
        if layer and not depthwise and full is not None and full.shape[2:] == tensor.shape[2:]:
            found.append(layer)
    return found


def _separate(separable: nn.Module, kernels: Tensor, bias: Tensor | None) -> None:
    """Fill a :class:`~ganc_nni.generators.layers.SeparableConv2d` from kernels, ``out x in x k x k``."""
    depthwise, pointwise = (separable.get_submodule(f"conv.{index}") for index in (0, 2))
    assert isinstance(depthwise, nn.Conv2d)
    assert isinstance(pointwise, nn.Conv2d)
    made, read = (min(sides) for sides in zip(pointwise.weight.shape[:2], kernels.shape[:2], strict=True))
    by_input = kernels[:made, :read].flatten(2).transpose(0, 1).double()
    left, strength, right = torch.linalg.svd(by_input, full_matrices=False)
    depthwise.weight[:read] = right[:, :1].unflatten(2, kernels.shape[2:]).to(depthwise.weight)
    pointwise.weight[:made, :read, 0, 0] = (left[..., 0] * strength[:, :1]).t().to(pointwise.weight)
    if bias is not None and pointwise.bias is not None:
        pointwise.bias[:made] = bias[:made].to(pointwise.bias)


def _fits(name: str, tensor: Tensor, source: Tensor, order: ChannelOrder) -> bool:
    """Whether the tensors differ in numbers of channels alone."""
    channels = order.axes.get(name, {})
    return tensor.ndim == source.ndim and all(
        axis in channels or tensor.shape[axis] == source.shape[axis] for axis in range(tensor.ndim)
    )


@torch.no_grad()
def inherit_mappings(mappings: Iterable[nn.Module], order: ChannelOrder) -> None:
    """Let each feature mapping say at first that a student's channel is the teacher's channel that it comes from."""
    for index, (mapping, channels) in enumerate(zip(mappings, order.features, strict=True)):
        assert isinstance(mapping, nn.Conv2d)
        count = min(mapping.in_channels, len(channels))
        mapping.weight.zero_()
        scale = order.feature_scales[index].to(mapping.weight) if order.feature_scales else torch.ones(len(channels))
        mapping.weight[channels[:count], torch.arange(count), 0, 0] = scale[channels[:count]]
        if mapping.bias is not None:
            mapping.bias.zero_()
