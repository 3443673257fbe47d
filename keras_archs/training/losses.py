"""The losses of the recipes, on logits: cross-entropy and binary cross-entropy.

Targets are labels (N,) or shares of each class (N, C), as mixup makes them. All is computed in float32.
`class_weights` weigh each class's term, so that a mixed image counts for each of its classes; Keras'
`class_weight` takes it for its dominant class alone. The loss of a batch is the mean over its N images; torch
divides by the sum of the labels' weights instead.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class _Loss(keras.losses.Loss):
    """What both share: targets smoothed over the classes, and weights of classes."""

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing={label_smoothing!r} is not accepted: a number from 0 to below 1"
            )
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]
        if not all(0 <= w < math.inf for w in self.class_weights or ()):
            raise ValueError(f"class_weights={self.class_weights} is not accepted: numbers from 0")

    def _targets(self, y_true: Any, classes: int) -> Any:
        """Shares of each class (N, C), smoothed: 1 becomes 1 - s + s / C, 0 becomes s / C."""
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == 2 and y_true.shape[1] == classes:
            shares = ops.cast(y_true, "float32")
        elif len(y_true.shape) == 1 or tuple(y_true.shape[1:]) == (1,):
            shares = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), classes, dtype="float32")
        else:
            raise ValueError(f"targets {tuple(y_true.shape)} must be (N,) or (N, {classes}), like the logits")
        return shares * (1 - self.label_smoothing) + self.label_smoothing / classes

    def _weighted(self, terms: Any) -> Any:
        """Each class's term (N, C) times the weight of the class."""
        if self.class_weights is None:
            return terms
        if len(self.class_weights) != terms.shape[1]:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} numbers for {terms.shape[1]} classes"
            )
        return terms * np.array(self.class_weights, "float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"label_smoothing": self.label_smoothing, "class_weights": self.class_weights}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_archs")
class CrossEntropy(_Loss):
    """-sum_c w_c * y_c * log softmax(logits)_c.

    Args:
        label_smoothing: Share of each target that goes to all classes alike, Szegedy et al. (2015), section
            7, arXiv:1512.00567.
        class_weights: w, one a class; None for 1.
        kwargs: Those of every Keras loss: `reduction`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image.

        Args:
            y_true: Labels (N,) or shares of each class (N, C).
            y_pred: Logits (N, C).

        Returns:
            float32 (N,).

        Raises:
            ValueError: If the shapes do not fit.
        """
        logs = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        return -ops.sum(self._weighted(self._targets(y_true, logs.shape[-1]) * logs), axis=-1)


@keras.saving.register_keras_serializable("keras_archs")
class BinaryCrossEntropy(_Loss):
    """mean_c -w_c * (y_c * log sigmoid(logits)_c + (1 - y_c) * log(1 - sigmoid(logits)_c)).

    Every class on its own: Wightman et al. (2021), "ResNet strikes back", arXiv:2110.00476. Shares of classes
    are smoothed like labels; timm does that where it mixes the images.

    Args:
        label_smoothing: Share of each target that goes to all classes alike.
        target_threshold: Make targets above it 1 and the others 0, after smoothing; None leaves them.
        class_weights: w, one a class; None for 1.
        kwargs: Those of every Keras loss: `reduction`, `name`.

    Raises:
        ValueError: If a value is not accepted.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        target_threshold: float | None = None,
        class_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(label_smoothing, class_weights, **kwargs)
        if target_threshold is not None and not 0 <= target_threshold < 1:
            raise ValueError(
                f"target_threshold={target_threshold!r} is not accepted: a number from 0 to below 1"
            )
        self.target_threshold = target_threshold

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image.

        Args:
            y_true: Labels (N,) or shares of each class (N, C).
            y_pred: Logits (N, C).

        Returns:
            float32 (N,).

        Raises:
            ValueError: If the shapes do not fit.
        """
        logits = ops.cast(y_pred, "float32")
        targets = self._targets(y_true, logits.shape[-1])
        if self.target_threshold is not None:
            targets = ops.cast(targets > self.target_threshold, "float32")
        return ops.mean(self._weighted(ops.binary_crossentropy(targets, logits, from_logits=True)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "target_threshold": self.target_threshold}
