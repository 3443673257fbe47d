"""The lecture's equations as functions `x -> y` on Keras tensors.

residual    y = F(x, W) + W_s x, where W_s is `identity`, `projection` or `zero_pad`
inception   y = concatenate(branch(x) for branch in branches)
separable   y = pointwise(depthwise(x)): where, then what

Rows of the family tables are made of steps (`Unit`, `Pool`, `Fork`); `apply` turns a step into layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from keras import layers

from keras_archs.conventions import Convention
from keras_archs.layers import ChannelPad, channel_axis

Tensor = Any  # a KerasTensor; Keras has no public name for it
Padding = Literal["same", "valid", "explicit"]


@dataclass(frozen=True)
class Unit:
    """Convolution, batch normalization, ReLU.

    Attributes:
        filters: Channels of the output.
        kernel: Height and width of the kernel, one number for a square.
        stride: Step of the convolution.
        pad: "same" and "valid" as in Keras; "explicit" pads both sides by half the kernel, whatever the input
            size, as PyTorch does ("same" pads an even input on one side only when stride is 2).
        norm: Whether batch normalization follows.
        relu: Whether ReLU ends the unit.
    """

    filters: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    pad: Padding = "same"
    norm: bool = True
    relu: bool = True


@dataclass(frozen=True)
class Pool:
    """One pooling layer; `pad` as in `Unit`, zeros for "explicit"."""

    kind: Callable[..., Any]
    size: int = 3
    stride: int = 1
    pad: Padding = "same"


@dataclass(frozen=True)
class Fork:
    """An inception module as a step inside a branch; `name` overrides the position's name."""

    branches: "tuple[Branch, ...]"
    name: str | None = None


Step = Unit | Pool | Fork
Branch = tuple[Step, ...]


def conv(x: Tensor, unit: Unit, convention: Convention, name: str) -> Tensor:
    """The convolution of a unit alone: (N, H, W, C) to (N, H', W', unit.filters)."""
    pad = unit.pad
    if pad == "explicit":
        kernel = (unit.kernel, unit.kernel) if isinstance(unit.kernel, int) else unit.kernel
        x = layers.ZeroPadding2D((kernel[0] // 2, kernel[1] // 2), name=f"{name}_pad")(x)
        pad = "valid"
    return layers.Conv2D(
        unit.filters,
        unit.kernel,
        unit.stride,
        pad,
        use_bias=convention.bias or not unit.norm,
        name=name + convention.suffixes[0],
    )(x)


def norm(x: Tensor, convention: Convention, name: str) -> Tensor:
    """Batch normalization over the channels, with the numbers of the convention."""
    return layers.BatchNormalization(
        channel_axis(), convention.momentum, convention.epsilon, scale=convention.gamma, name=name
    )(x)


def apply(x: Tensor, step: Step, convention: Convention, name: str) -> Tensor:
    """Turns one step into layers: (N, H, W, C) to (N, H', W', C')."""
    if isinstance(step, Fork):
        return inception(x, step.branches, convention, step.name or name)
    if isinstance(step, Pool):
        pad = step.pad
        if pad == "explicit":
            x = layers.ZeroPadding2D(step.size // 2, name=f"{name}_pad")(x)
            pad = "valid"
        return step.kind(step.size, step.stride, pad, name=f"{name}_pool")(x)
    x = conv(x, step, convention, name)
    if step.norm:
        x = norm(x, convention, name + convention.suffixes[1])
    return layers.Activation("relu", name=name + convention.suffixes[2])(x) if step.relu else x


def chain(x: Tensor, steps: Sequence[Step], convention: Convention, name: str) -> Tensor:
    """Steps one after the other, named `{name}_1`, `{name}_2`, ..."""
    for i, step in enumerate(steps, 1):
        x = apply(x, step, convention, f"{name}_{i}")
    return x


class Shortcut(Protocol):
    """W_s: from the input of a block to the `filters` and `stride` of its F."""

    def __call__(self, x: Tensor, filters: int, stride: int, convention: Convention, name: str) -> Tensor:
        """(N, H, W, C) to (N, H / stride, W / stride, filters)."""


def identity(x: Tensor, filters: int, stride: int, convention: Convention, name: str) -> Tensor:
    """W_s = I: the shortcut where shape stays (He et al. 2015, equation 1). No weights."""
    return x


def projection(x: Tensor, filters: int, stride: int, convention: Convention, name: str) -> Tensor:
    """W_s = a 1x1 convolution (He et al. 2015, equation 2 and option B). C_in * C_out weights."""
    return apply(x, Unit(filters, 1, stride, relu=False), convention, f"{name}_0")


def zero_pad(x: Tensor, filters: int, stride: int, convention: Convention, name: str) -> Tensor:
    """W_s = every stride-th pixel, new channels zero (He et al. 2015, option A). No weights."""
    if stride > 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_0_pool")(x)
    return ChannelPad(filters, name=f"{name}_0_pad")(x)


def residual(
    x: Tensor,
    F: Callable[[Tensor], Tensor],
    W_s: Callable[[Tensor], Tensor],
    convention: Convention,
    name: str,
) -> Tensor:
    """y = F(x, W) + W_s x.

    He et al. (2015), section 3.2, equations 1 and 2 (arXiv:1512.03385).

    Args:
        x: Input, (N, H, W, C).
        F: The residual function, `x -> (N, H', W', C')`.
        W_s: The shortcut, `x -> (N, H', W', C')`.
        convention: Its `shortcut_first` orders the operands.
        name: Name of the Add layer.

    Returns:
        The sum, (N, H', W', C'), before any activation.
    """
    operands = [W_s(x), F(x)] if convention.shortcut_first else [F(x), W_s(x)]
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


def separable(x: Tensor, filters: int, convention: Convention, name: str) -> Tensor:
    """y = pointwise(depthwise(x)), then batch normalization.

    Chollet (2016), section 2 (arXiv:1610.02357). One layer with two kernels, 3 * 3 * C and C * filters
    weights against 3 * 3 * C * filters of a full convolution. Nothing stands between the two steps.

    Args:
        x: Input, (N, H, W, C).
        filters: Channels of the output.
        convention: Numbers and names of the layers.
        name: Name of the SeparableConv2D layer.

    Returns:
        (N, H, W, filters).
    """
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=convention.bias, name=name)(x)
    return norm(x, convention, f"{name}_bn")
