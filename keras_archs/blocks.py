"""The lecture's equations as functions `x -> y` on Keras tensors.

residual    y = F(x, W) + W_s x, where W_s is `identity`, `projection` or `zero_pad`
inception   y = concatenate(branch(x) for branch in branches)
separable   y = pointwise(depthwise(x)): where, then what

Rows of the family tables are made of steps (`Unit`, `Pool`, `Fork`); `apply` turns a step into layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log2
from typing import Any, Protocol

from keras import layers

from keras_archs.conventions import Convention, Padding
from keras_archs.layers import ChannelPad, StandardizedConv2D, StochasticAdd, channel_axis

Tensor = Any  # a KerasTensor; Keras has no public name for it


@dataclass(frozen=True)
class Pool:
    """One pooling layer.

    Attributes:
        kind: Keras layer, called as `kind(size, stride, padding, name=...)`.
        size: Height and width of the window.
        stride: Step of the window.
        pad: "same" and "valid" as in Keras. "explicit" pads both sides by half the window with zeros and
            "infinite" with minus infinity, whatever the input size, as PyTorch does; "ceil" pads the far side
            only, PyTorch's `ceil_mode`. "reflect" is for `BlurPooling2D`. "lineage": as the convention says.
    """

    kind: Callable[..., Any]
    size: int = 3
    stride: int = 1
    pad: Padding = "same"


@dataclass(frozen=True)
class Unit:
    """Convolution, normalization, ReLU.

    Attributes:
        filters: Channels of the output.
        kernel: Height and width of the kernel, one number for a square.
        stride: Step of the convolution.
        pad: As in `Pool`; "explicit" differs from "same" where stride is 2 and the input is even.
        norm: Whether normalization follows.
        relu: Whether ReLU ends the unit.
        groups: Groups of channels that see each other (Xie et al. 2016, arXiv:1611.05431).
        dilation: Distance between the samples of the kernel.
        last: Whether this unit ends a residual function, so that `zero_last` means its scale, or its kernel
            where no normalization follows.
        pool: Pool after the ReLU that strides in place of the convolution (anti-aliasing).
    """

    filters: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    pad: Padding = "same"
    norm: bool = True
    relu: bool = True
    groups: int = 1
    dilation: int = 1
    last: bool = False
    pool: Pool | None = None


@dataclass(frozen=True)
class Fork:
    """An inception module as a step inside a branch; `name` overrides the position's name."""

    branches: "tuple[Branch, ...]"
    name: str | None = None


Step = Unit | Pool | Fork
Branch = tuple[Step, ...]


def conv(x: Tensor, unit: Unit, convention: Convention, name: str) -> Tensor:
    """The convolution of a unit alone: (N, H, W, C) to (N, H', W', unit.filters)."""
    pad = convention.pad if unit.pad == "lineage" else unit.pad
    if pad == "explicit":
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        sides = tuple(unit.dilation * (size // 2) for size in kernel)
        x = layers.ZeroPadding2D(sides, name=f"{name}_pad")(x)
        pad = "valid"
    silent = unit.last and not unit.norm and convention.zero_last
    kind = layers.Conv2D
    if convention.standardize is not None:
        kind = partial(StandardizedConv2D, epsilon=convention.standardize)
    return kind(
        unit.filters,
        unit.kernel,
        unit.stride,
        pad,
        dilation_rate=unit.dilation,
        groups=unit.groups,
        use_bias=convention.bias == "always" or (convention.bias == "without_norm" and not unit.norm),
        kernel_initializer="zeros" if silent else "glorot_uniform",
        name=name + convention.suffixes[0],
    )(x)


def norm(x: Tensor, convention: Convention, name: str, last: bool = False) -> Tensor:
    """Batch or group normalization of the channels, with the numbers of the convention.

    Args:
        x: Input, (N, H, W, C).
        convention: Its epsilon, momentum, groups and so on.
        name: Name of the layer.
        last: Whether it ends a residual function: its scale then starts at zero if the convention wants so.

    Returns:
        (N, H, W, C).
    """
    gamma = "zeros" if last and convention.zero_last else "ones"
    if convention.groups:
        return layers.GroupNormalization(
            convention.groups, channel_axis(), convention.epsilon, gamma_initializer=gamma, name=name
        )(x)
    return layers.BatchNormalization(
        channel_axis(),
        convention.momentum,
        convention.epsilon,
        scale=convention.gamma,
        gamma_initializer=gamma,
        name=name,
    )(x)


def relu(x: Tensor, name: str) -> Tensor:
    """max(x, 0): (N, H, W, C) to the same shape."""
    return layers.Activation("relu", name=name)(x)


def pooled(x: Tensor, pool: Pool, convention: Convention, name: str) -> Tensor:
    """One pooling step: (N, H, W, C) to (N, H', W', C)."""
    pad = pool.pad
    if pad == "lineage":
        averages = pool.kind is layers.AveragePooling2D
        pad = convention.average_pad if averages else convention.max_pad
    if pad == "infinite" and pool.stride == 1:
        pad = "same"
    if pad == "infinite":
        # The strided pool with minus infinity around it, in operations that every runtime has: the pool at
        # every pixel ("same" of stride 1 pads so), then every stride-th of its results.
        x = pool.kind(pool.size, 1, "same", name=f"{name}_pool")(x)
        return layers.MaxPooling2D(1, pool.stride, name=f"{name}_stride")(x)
    if pad in ("explicit", "ceil"):
        # Zeros below and to the right change no maximum of activated features: where a ceiling adds no
        # window, the valid pool never reaches them.
        sides = pool.size // 2 if pad == "explicit" else ((0, 1), (0, 1))
        x = layers.ZeroPadding2D(sides, name=f"{name}_pad")(x)
        pad = "valid"
    return pool.kind(pool.size, pool.stride, pad, name=f"{name}_pool")(x)


def apply(x: Tensor, step: Step, convention: Convention, name: str) -> Tensor:
    """Turns one step into layers: (N, H, W, C) to (N, H', W', C')."""
    if isinstance(step, Fork):
        return inception(x, step.branches, convention, step.name or name)
    if isinstance(step, Pool):
        return pooled(x, step, convention, name)
    x = conv(x, step, convention, name)
    if step.norm and convention.normalizes:
        x = norm(x, convention, name + convention.suffixes[1], step.last)
    if step.relu:
        x = relu(x, name + convention.suffixes[2])
    return pooled(x, step.pool, convention, name) if step.pool else x


def chain(x: Tensor, steps: Sequence[Step], convention: Convention, name: str) -> Tensor:
    """Steps one after the other, named `{name}_1`, `{name}_2`, ..."""
    for i, step in enumerate(steps, 1):
        x = apply(x, step, convention, f"{name}_{i}")
    return x


class Shortcut(Protocol):
    """W_s: from the input of a block to the `filters` and `stride` of its F."""

    def __call__(
        self, x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = ...
    ) -> Tensor:
        """(N, H, W, C) to (N, H / stride, W / stride, filters); `dilated` if F dilates instead."""


def identity(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """W_s = I: the shortcut where the width stays (He et al. 2015, equation 1). No weights.

    Where F strides and the width stays, it takes every stride-th pixel, as slim and Keras' v2 do.
    """
    return layers.MaxPooling2D(1, stride, name=f"{name}_0_pool")(x) if stride > 1 else x


def projection(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """W_s = a 1x1 convolution (He et al. 2015, equation 2 and option B). C_in * C_out weights."""
    return apply(x, Unit(filters, 1, stride, relu=False), convention, f"{name}_0")


def wide_projection(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """W_s = a 3x3 convolution where F strides, else a 1x1: SENet-154, Hu et al. (2017), arXiv:1709.01507."""
    if stride == 1:
        return projection(x, filters, stride, convention, name)
    return apply(x, Unit(filters, 3, stride, "explicit", relu=False), convention, f"{name}_0")


def averaged(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """W_s = a 2x2 average pool that strides, then a 1x1 convolution: ResNet-D.

    He et al. (2018), "Bag of Tricks", figure 2c (arXiv:1812.01187): no pixel of x is left out.
    """
    return projection(average_2x2(x, stride, dilated, name), filters, 1, convention, name)


def average_2x2(x: Tensor, stride: int, dilated: bool, name: str) -> Tensor:
    """The pool of ResNet-D's shortcut: (N, H, W, C) to (N, H / stride, W / stride, C)."""
    if dilated:
        # timm pads with zeros that count in the average here, and leaves them out where it strides.
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_0_pad")(x)
        return layers.AveragePooling2D(2, 1, name=f"{name}_0_pool")(x)
    return layers.AveragePooling2D(2, stride, "same", name=f"{name}_0_pool")(x) if stride > 1 else x


def zero_pad(
    x: Tensor, filters: int, stride: int, convention: Convention, name: str, dilated: bool = False
) -> Tensor:
    """W_s = every stride-th pixel, new channels zero (He et al. 2015, option A). No weights."""
    return ChannelPad(filters, name=f"{name}_0_pad")(identity(x, filters, stride, convention, name))


class Attention(Protocol):
    """Channel attention at the end of F."""

    def __call__(self, x: Tensor, name: str) -> Tensor:
        """(N, H, W, C) to the same shape, every channel scaled."""


def squeeze_excite(x: Tensor, name: str, ratio: float = 1 / 16) -> Tensor:
    """y = x * sigmoid(W_2 relu(W_1 mean(x))): Hu et al. (2017), equations 2 to 4 (arXiv:1709.01507).

    Args:
        x: Input, (N, H, W, C).
        name: First part of the layer names.
        ratio: Width of the bottleneck as a share of C, rounded to a multiple of eight as in timm.

    Returns:
        (N, H, W, C).
    """
    channels = x.shape[channel_axis()]
    reduced = max(8, int(channels * ratio + 4) // 8 * 8)
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(x)
    s = layers.Conv2D(reduced, 1, activation="relu", name=f"{name}_se_reduce")(s)
    s = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_se_expand")(s)
    return layers.Multiply(name=f"{name}_se_scale")([x, s])


def efficient_attention(x: Tensor, name: str) -> Tensor:
    """y = x * sigmoid(conv1d(mean(x))): ECA, Wang et al. (2019), section 3.2 (arXiv:1910.03151).

    Args:
        x: Input, (N, H, W, C).
        name: First part of the layer names.

    Returns:
        (N, H, W, C).
    """
    channels = x.shape[channel_axis()]
    size = int(abs(log2(channels) + 1) / 2)
    size = max(size if size % 2 else size + 1, 3)
    shape = (channels, 1, 1) if channel_axis() == 1 else (1, 1, channels)
    s = layers.GlobalAveragePooling2D(name=f"{name}_eca_squeeze")(x)
    s = layers.Reshape((channels, 1), name=f"{name}_eca_in")(s)
    s = layers.Conv1D(
        1,
        size,
        padding="same",
        data_format="channels_last",
        activation="sigmoid",
        use_bias=False,
        name=f"{name}_eca",
    )(s)
    s = layers.Reshape(shape, name=f"{name}_eca_out")(s)
    return layers.Multiply(name=f"{name}_eca_scale")([x, s])


def residual(
    x: Tensor,
    F: Callable[[Tensor], Tensor],
    W_s: Callable[[Tensor], Tensor],
    convention: Convention,
    name: str,
    drop_rate: float = 0.0,
) -> Tensor:
    """y = F(x, W) + W_s x.

    He et al. (2015), section 3.2, equations 1 and 2 (arXiv:1512.03385).

    Args:
        x: Input, (N, H, W, C).
        F: The residual function, `x -> (N, H', W', C')`.
        W_s: The shortcut, `x -> (N, H', W', C')`.
        convention: Its `shortcut_first` orders the operands.
        name: Name of the sum.
        drop_rate: Share of the images that lose F in training (stochastic depth).

    Returns:
        The sum, (N, H', W', C'), before any activation.
    """
    operands = [W_s(x), F(x)] if convention.shortcut_first else [F(x), W_s(x)]
    if drop_rate:
        return StochasticAdd(drop_rate, int(convention.shortcut_first), name=name)(operands)
    return layers.Add(name=name)(operands)


def inception(x: Tensor, branches: Sequence[Branch], convention: Convention, name: str) -> Tensor:
    """y = concatenate(branch(x) for branch in branches).

    Szegedy et al. (2014), section 4, figure 2 (arXiv:1409.4842).

    Args:
        x: Input, (N, H, W, C).
        branches: Each a tuple of steps; step i of branch k is named `{name}_b{k}_{i}`. All branches end with
            the same height and width.
        convention: Numbers and names of the layers.
        name: Name of the Concatenate layer.

    Returns:
        (N, H', W', sum of the branches' channels), in the order of the branches.
    """
    outputs = [chain(x, branch, convention, f"{name}_b{k}") for k, branch in enumerate(branches)]
    return layers.Concatenate(channel_axis(), name=name)(outputs)


def separable(
    x: Tensor, filters: int, convention: Convention, name: str, dilation: int = 1, last: bool = False
) -> Tensor:
    """y = pointwise(depthwise(x)), then batch normalization.

    Chollet (2016), section 2 (arXiv:1610.02357). One layer with two kernels, 3 * 3 * C and C * filters
    weights against 3 * 3 * C * filters of a full convolution. Nothing stands between the two steps.

    Args:
        x: Input, (N, H, W, C).
        filters: Channels of the output.
        convention: Numbers and names of the layers.
        name: Name of the SeparableConv2D layer.
        dilation: Distance between the samples of the depthwise kernel.
        last: Whether it ends a residual function.

    Returns:
        (N, H, W, filters).
    """
    x = layers.SeparableConv2D(
        filters,
        3,
        padding="same",
        dilation_rate=dilation,
        use_bias=convention.bias == "always",
        name=name,
    )(x)
    return norm(x, convention, f"{name}_bn", last)
