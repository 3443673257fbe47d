"""find_learning_rate: a short training whose rate rises until the loss explodes, and the rate to take.

The learning-rate range test of Smith (2017), section 3.3, arXiv:1506.01186, with a rate that rises
exponentially from step to step, and the loss smoothed.
"""

import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_archs.training import networks, schedules
from keras_archs.training.cluster import Cluster
from keras_archs.training.config import TrainConfig
from keras_archs.training.data import in_memory, load_data
from keras_archs.training.phases import phases_of
from keras_archs.training.pipeline import Part
from keras_archs.training.plots import smoothed
from keras_archs.training.progress import TrainingProgress, is_wanted, training_progress
from keras_archs.training.strategies import Plan, make_plan
from keras_archs.training.trainee import Trainee
from keras_archs.training.trainer import check_fit

if TYPE_CHECKING:
    import tensorflow as tf

FEWEST_STEPS = 20  # fewer are too few to smooth
WORSE = 4.0  # times the smallest loss: further up there is nothing to learn
SMALLEST = 1e-12  # a loss of 0 has no logarithm
WINDOW = 0.1  # share of the steps that a slope is measured over; the difference of two steps is all noise


@dataclass(frozen=True)
class Rates:
    """What a range test saw, until the loss exploded or was no number.

    Attributes:
        rates: Learning rate of each step, rising.
        losses: Of that step's batch alone, before its update.
        smoothed: Their running mean, as `plots.smoothed` has it.
        steepest: Number of the step, from 0, where the smoothed loss falls most in proportion to itself.
        suggestion: The rate of that step: a peak for the configuration's batch size.
        careful: A tenth of the rate at the smallest smoothed loss, which is the other rule in use.
        learning_rate: What `optimizer.learning_rate` must be for that peak; it differs from `suggestion` if
            `optimizer.base_batch` is set.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: int
    suggestion: float
    careful: float
    learning_rate: float

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON.

        Returns:
            Values by name.
        """
        return asdict(self)


def find_learning_rate(
    config: TrainConfig,
    *,
    lowest: float = 1e-5,
    highest: float = 10.0,
    steps: int = 100,
    progress: bool | None = None,
) -> Rates:
    """Train for some steps, each with a larger rate, and suggest where the loss fell most steeply.

    This happens on one device and leaves no file. The network, the data, their augmentation, the loss and the
    optimizer are the run's; where it freezes layers or changes the size of images, those of its last epochs.

    Args:
        config: What is to be trained. Its learning rate and schedule are not used.
        lowest: Rate of the first step.
        highest: Rate of the last one.
        steps: How many.
        progress: True, False, or None for "only on a terminal".

    Returns:
        Rates, losses and the suggestion.

    Raises:
        ValueError: If an argument is not accepted, the configuration does not fit the data or the model, or
            the loss never fell.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"lowest={lowest!r} and highest={highest!r} must be numbers, 0 < lowest < highest")
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps={steps!r} must be at least {FEWEST_STEPS}")
    batch_size = config.run.batch_size
    if not isinstance(batch_size, int):
        raise ValueError(f"run.batch_size={batch_size!r}: the rate depends on it, so it must be a number")
    plan = make_plan("one_device", Cluster((), 0, "this machine alone"), batch_size)
    check_fit(config, plan)
    data = in_memory(load_data(config, progress=progress), progress)
    if batch_size > len(data.train):
        raise ValueError(
            f"run.batch_size={batch_size} must be at most {len(data.train)}, the number of training images"
        )
    curve = schedules.Exponential(lowest, steps - 1, highest / lowest, staircase=False)
    model = compiled_trainee(config, len(data.class_names), data.train.labels, curve, plan)
    batches = data.training(0, 0, phases_of(config)[-1].size, Part(batch_size))
    losses = _losses_of(model, batches, steps, batch_size, progress)
    c = config.optimizer
    scale = schedules.scaled_rate(1.0, batch_size, c.base_batch or batch_size, c.scaling)
    return read_rates(np.geomspace(lowest, highest, steps), losses, scale)


def compiled_trainee(
    config: TrainConfig,
    classes: int,
    labels: np.ndarray,
    rate: Any,
    plan: Plan,
    strategy: "tf.distribute.Strategy | None" = None,
) -> Trainee:
    """Build the network of a run and compile it as for its last epochs, when all layers learn that ever do.

    Args:
        config: What is to be trained.
        classes: Outputs.
        labels: Class numbers of the training images.
        rate: A schedule.
        plan: On which devices.
        strategy: The plan's.

    Returns:
        The model, ready for `fit`.
    """
    saved = networks.build_saved(config, classes)
    with nullcontext() if strategy is None else strategy.scope():
        model = networks.build_trainee(config, classes)
        networks.compile_trainee(model, saved, config, rate=rate, labels=labels, plan=plan)
    return model


def _losses_of(
    model: Trainee, batches: "tf.data.Dataset", steps: int, batch_size: int, progress: bool | None
) -> list[float]:
    """Train until the loss explodes or the steps are done."""
    watch = _Watch()
    with training_progress(progress) as bar:
        shown = [TrainingProgress(bar, 1, steps, batch_size, 0)] if is_wanted(progress) else []
        model.fit(batches, steps_per_epoch=steps, callbacks=[watch, *shown], shuffle=False, verbose=0)
    return watch.losses


class _Watch(keras.callbacks.Callback):
    """Note the loss of every step, and end the training when it explodes."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self._sum = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Undo Keras' running mean."""
        total = float((logs or {})["loss"]) * (batch + 1)
        loss, self._sum = total - self._sum, total
        if math.isfinite(loss):
            self.losses.append(loss)
        means = smoothed(self.losses)
        if not math.isfinite(loss) or means[-1] > WORSE * means.min():
            self.model.stop_training = True


def read_rates(rates: np.ndarray, losses: list[float], scale: float) -> Rates:
    """Take the suggestion from the curve.

    Args:
        rates: Learning rate of each step that was planned, (N,).
        losses: Of the steps that were done, at most N.
        scale: Peak of the schedule over `optimizer.learning_rate`.

    Returns:
        All of it.

    Raises:
        ValueError: If the loss never fell.
    """
    means = smoothed(losses)
    steepest = _steepest(means, len(rates))
    if steepest is None:
        raise ValueError(
            f"the loss did not fall in the {len(losses)} steps before it exploded or the test ended, at "
            f"learning rates from {rates[0]:g} on: lower `lowest`, raise `highest`, or take more `steps`"
        )
    return Rates(
        rates=tuple(map(float, rates[: len(losses)])),
        losses=tuple(losses),
        smoothed=tuple(map(float, means)),
        steepest=steepest,
        suggestion=float(rates[steepest]),
        careful=float(rates[np.argmin(means)]) / 10,
        learning_rate=float(rates[steepest]) / scale,
    )


def _steepest(means: np.ndarray, steps: int) -> int | None:
    """Where the loss falls by the largest share of itself while the rate grows by some factor.

    Not by its difference: a new classifier begins worse than chance, and getting there, at rates that are
    far too low, would be the steepest part.

    Args:
        means: The smoothed loss of each step.
        steps: How many were planned: the window is a part of the way from the lowest rate to the highest.

    Returns:
        Number of the step; None if the loss does not fall before it is smallest.
    """
    half = max(1, round(steps * WINDOW / 2))
    if len(means) <= 2 * half:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(np.log(np.maximum(means, SMALLEST)), 2 * half + 1)
    slopes = windows @ np.arange(-half, half + 1)  # of the straight line through a window, times a constant
    slopes = slopes[: max(0, int(np.argmin(means)) - half + 1)]
    return half + int(np.argmin(slopes)) if len(slopes) and slopes.min() < 0 else None
