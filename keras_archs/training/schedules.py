"""Learning rates as functions of the step: a curve, with a warm-up in front if wanted.

Steps are those of the training, counted from 0, warm-up included. Curves that fall over time can wait until
a step `begin`: torchvision's recipes begin where the warm-up ends, timm's begin at 0, and the warm-up covers
the first part. Values are float32 tensors; `float(curve(5))` is a number to plot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
from keras import ops

from keras_archs.choices import check_choice

SCALINGS = ("none", "linear", "sqrt")


class _Curve(keras.optimizers.schedules.LearningRateSchedule):
    """What the curves share: a record that Keras can save."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@keras.saving.register_keras_serializable("keras_archs")
@dataclass(frozen=True)
class Constant(_Curve):
    """The same rate at every step.

    Attributes:
        rate: The rate.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_from_zero(rate=self.rate)

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        return ops.ones_like(ops.cast(step, "float32")) * self.rate


@keras.saving.register_keras_serializable("keras_archs")
@dataclass(frozen=True)
class Cosine(_Curve):
    """Half a cosine from `rate` at step `begin` to `end` at step `steps`, and `end` from then on.

    Loshchilov and Hutter (2016), equation 5 without restarts, arXiv:1608.03983.

    Attributes:
        rate: Rate until `begin`.
        steps: Step at which `end` is reached.
        end: Last rate.
        begin: Step at which the fall begins.
    """

    rate: float
    steps: int
    end: float = 0.0
    begin: int = 0

    def __post_init__(self) -> None:
        _check_from_zero(rate=self.rate, end=self.end)
        _check_span(self.begin, self.steps)

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        share = _share(step, self.begin, self.steps)
        return self.end + (self.rate - self.end) * 0.5 * (1 + ops.cos(math.pi * share))


@keras.saving.register_keras_serializable("keras_archs")
@dataclass(frozen=True)
class Polynomial(_Curve):
    """(1 - t)^power from `rate` at step `begin` to `end` at step `steps`, and `end` from then on.

    Attributes:
        rate: Rate until `begin`.
        steps: Step at which `end` is reached.
        end: Last rate.
        power: 1 is a straight line; LARS, arXiv:1708.03888, falls with 2.
        begin: Step at which the fall begins.
    """

    rate: float
    steps: int
    end: float = 0.0
    power: float = 1.0
    begin: int = 0

    def __post_init__(self) -> None:
        _check_from_zero(rate=self.rate, end=self.end)
        _check_above_zero(power=self.power)
        _check_span(self.begin, self.steps)

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        share = _share(step, self.begin, self.steps)
        return self.end + (self.rate - self.end) * ops.power(1 - share, self.power)


@keras.saving.register_keras_serializable("keras_archs")
@dataclass(frozen=True)
class Step(_Curve):
    """The rate is multiplied by `factor` at each of the boundaries, as He et al. (2015) divide it by 10.

    Attributes:
        rate: Rate before the first boundary.
        boundaries: Steps, rising, which are the first with the new rate.
        factor: What the rate is multiplied by.
    """

    rate: float
    boundaries: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check_from_zero(rate=self.rate)
        _check_above_zero(factor=self.factor)
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        if any(a >= b for a, b in zip((0, *self.boundaries), self.boundaries, strict=False)):
            raise ValueError(f"boundaries={list(self.boundaries)} must be steps above 0 that rise")

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        step = ops.cast(step, "float32")
        cuts = sum((ops.cast(step >= boundary, "float32") for boundary in self.boundaries), 0.0 * step)
        return self.rate * ops.power(self.factor, cuts)


@keras.saving.register_keras_serializable("keras_archs")
@dataclass(frozen=True)
class Exponential(_Curve):
    """The rate is multiplied by `factor` every so many steps.

    By 0.94 every two epochs for Inception, Szegedy et al. (2015), section 8, arXiv:1512.00567, and Xception,
    Chollet (2016), section 4.2, arXiv:1610.02357.

    Attributes:
        rate: Rate until `begin`.
        every: Steps between two factors.
        factor: What the rate is multiplied by.
        staircase: Multiply at once, rather than a little at each step.
        begin: Step at which the fall begins.
    """

    rate: float
    every: int
    factor: float = 0.94
    staircase: bool = True
    begin: int = 0

    def __post_init__(self) -> None:
        _check_from_zero(rate=self.rate, begin=self.begin)
        _check_above_zero(every=self.every, factor=self.factor)

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        times = ops.maximum(ops.cast(step, "float32") - self.begin, 0.0) / self.every
        return self.rate * ops.power(self.factor, ops.floor(times) if self.staircase else times)


@keras.saving.register_keras_serializable("keras_archs")
@dataclass(frozen=True)
class Warmup(_Curve):
    """A straight line from `start` up to what the curve is at step 0; from step `steps` on, the curve.

    Goyal et al. (2017), section 2.2, arXiv:1706.02677.

    Attributes:
        curve: What follows.
        steps: Length of the rise.
        start: Rate at step 0.
    """

    curve: keras.optimizers.schedules.LearningRateSchedule
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        _check_from_zero(start=self.start)
        _check_above_zero(steps=self.steps)

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        step = ops.cast(step, "float32")
        rise = self.start + (self.curve(0) - self.start) * step / self.steps
        return ops.where(step < self.steps, rise, self.curve(step))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "curve": keras.optimizers.schedules.serialize(self.curve)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        """Makes a schedule of what `get_config` gave."""
        return cls(**{**config, "curve": keras.optimizers.schedules.deserialize(config["curve"])})


def scaled_rate(rate: float, batch_size: int, base_batch: int, scaling: str = "linear") -> float:
    """The learning rate for another batch size than the recipe's.

    Args:
        rate: Rate of the recipe.
        batch_size: Images a step, over all devices.
        base_batch: Images a step that `rate` is meant for.
        scaling: "none"; "linear" for SGD, Goyal et al. (2017), arXiv:1706.02677; "sqrt" for AdamW and LAMB,
            You et al. (2019), arXiv:1904.00962.

    Returns:
        The rate.

    Raises:
        ValueError: If a value is not accepted.
    """
    check_choice("scaling", scaling, SCALINGS)
    _check_from_zero(rate=rate)
    _check_above_zero(batch_size=batch_size, base_batch=base_batch)
    ratio = batch_size / base_batch
    return rate * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[scaling]


def _share(step: Any, begin: int, steps: int) -> Any:
    """How much of the way from `begin` to `steps` is done, from 0 to 1."""
    return ops.clip((ops.cast(step, "float32") - begin) / (steps - begin), 0.0, 1.0)


def _check_from_zero(**values: float) -> None:
    """Refuse negative and not finite numbers, by name."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r} is not accepted: a number from 0")


def _check_above_zero(**values: float) -> None:
    """Refuse numbers that are not above zero and finite, by name."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} is not accepted: a number above 0")


def _check_span(begin: int, steps: int) -> None:
    """Refuse a fall without length."""
    if not 0 <= begin < steps:
        raise ValueError(f"begin={begin!r} and steps={steps!r} are not accepted: 0 <= begin < steps")
