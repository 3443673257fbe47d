"""Trainee: a network as `Model.fit` trains it, with what Keras's own model lacks.

Every Keras callback, metric and progress bar works on it. The steps are the backend's: see `steps`.
"""

from importlib import import_module
from typing import Any

import keras
from keras import ops

from keras_archs.training.losses import CrossEntropy

STEPS = {"jax": "jax", "tensorflow": "tensorflow"}
# Elsewhere a model can be looked at, but `make_plan` refuses to train it.
steps: Any = import_module(f"keras_archs.training.steps.{STEPS.get(keras.backend.backend(), 'tensorflow')}")


class Trainee(keras.Model):
    """A classifier in training: micro-batches, averaged weights, auxiliary losses, exact evaluation.

    Evaluation always reports plain cross-entropy and accuracy, whatever loss trains, so that runs compare.
    A weight of 0 leaves an example out: that is how the last partial batch is filled up.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        auxiliary_weight: float = 0.0,
        micro_batches: int = 1,
        ema_decay: float = 0.0,
        ema_every: int = 1,
    ) -> None:
        """Wrap a network; the two share their weights.

        Args:
            network: Its first output are logits (N, classes), further ones those of auxiliary classifiers.
            auxiliary_weight: Of each auxiliary classifier's loss in the sum.
            micro_batches: Parts into which a replica divides its batch; one update follows them all.
            ema_decay: Of the exponential moving average of all weights; 0 means none is kept.
            ema_every: Steps between two updates of the average.
        """
        super().__init__(network.inputs[0], network.output, name=network.name)
        self.auxiliary_weight = auxiliary_weight
        self.micro_batches = micro_batches
        self.ema_decay, self.ema_every = ema_decay, ema_every
        self.replica_functions: dict[str, Any] = {}  # what `replicas` runs between steps
        self.evaluation_loss = CrossEntropy()
        self.measures = metrics_for(network.outputs[0].shape[-1])
        self.averages = WeightAverages(self.weights) if ema_decay else None
        self.bad_step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer=keras.initializers.Constant(-1),
            trainable=False,
            name="bad_step",
        )

    train_step = steps.train_step
    test_step = steps.test_step

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss that trains: the compiled one of each output, weighted, plus regularization.

        Args:
            x: Not used.
            y: Labels (N,) or soft targets (N, classes).
            y_pred: Logits (N, classes), or a list of them.
            sample_weight: None, or (N,).
            training: Not used.

        Returns:
            A scalar, already divided by the number of replicas, as Keras' losses are.
        """
        main, *auxiliary = y_pred if isinstance(y_pred, list | tuple) else [y_pred]
        total = self.loss(y, main, sample_weight=sample_weight)
        for logits in auxiliary:
            total += self.auxiliary_weight * self.loss(y, logits, sample_weight=sample_weight)
        for penalty in self.losses:
            total += self._aggregate_additional_loss(penalty)
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Update accuracy, and what else was compiled, with the main output.

        Args:
            x: Not used.
            y: Labels (N,) or soft targets (N, classes).
            y_pred: Logits (N, classes), or a list of them.
            sample_weight: None, or (N,).

        Returns:
            Values by name.
        """
        main = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
        for measure in self.measures:
            measure.update_state(y, main, sample_weight)
        return super().compute_metrics(x, y, main, sample_weight)

    def note_loss(self, loss: Any) -> None:
        """Remember the first step whose loss is no number.

        Args:
            loss: A scalar.
        """
        first = ops.logical_and(ops.logical_not(ops.isfinite(loss)), self.bad_step < 0)
        step = ops.cast(self.optimizer.iterations, "int32")
        self.bad_step.assign(ops.where(first, step, ops.convert_to_tensor(self.bad_step)))

    def update_averages(self) -> None:
        """Move the averages on, once a step of the optimizer."""
        if self.averages is not None:
            due = ops.equal(self.optimizer.iterations % self.ema_every, 0)
            self.averages.update(ops.where(due, self.ema_decay, 1.0))

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Nothing is left to build; Keras' own fails on several workers and would read a batch for it."""


class WeightAverages(keras.layers.Layer):
    """Exponential moving averages of weights, kept as weights so that each backend treats them as state.

    Statistics of batch normalization are averaged, too: those of the newest weights do not fit older ones.
    """

    def __init__(self, sources: list[keras.Variable]) -> None:
        super().__init__(name="averages", trainable=False, dtype="float32")
        self.sources = [v for v in sources if keras.backend.is_float_dtype(v.dtype)]
        self.values = [
            self.add_weight(
                shape=v.shape, initializer="zeros", trainable=False, name=v.path.replace("/", ".")
            )
            for v in self.sources
        ]
        self.built = True
        self.restart()

    def restart(self) -> None:
        """Make the averages equal to the weights."""
        for source, value in zip(self.sources, self.values, strict=True):
            value.assign(ops.copy(ops.convert_to_tensor(source)))  # JAX would share the memory

    def update(self, decay: Any) -> None:
        """Move the averages towards the weights: value = decay * value + (1 - decay) * source.

        Args:
            decay: 1 leaves them where they are.
        """
        for source, value in zip(self.sources, self.values, strict=True):
            value.assign(value * decay + ops.cast(source, "float32") * (1 - decay))


def accuracy(y: Any, logits: Any) -> Any:
    """Whether the most probable class is the right one; of soft targets, the one with the largest share.

    Args:
        y: Labels (N,) or soft targets (N, classes).
        logits: (N, classes).

    Returns:
        Zeros and ones, (N,).
    """
    truth = ops.argmax(y, axis=-1) if len(y.shape) == 2 else ops.cast(y, "int32")
    return ops.cast(
        ops.equal(ops.cast(truth, "int32"), ops.cast(ops.argmax(logits, axis=-1), "int32")), "float32"
    )


def top5_accuracy(y: Any, logits: Any) -> Any:
    """Whether the right class is among the five most probable ones.

    Args:
        y: Labels (N,) or soft targets (N, classes).
        logits: (N, classes).

    Returns:
        Zeros and ones, (N,).
    """
    return ops.cast(ops.in_top_k(_classes(y), ops.cast(logits, "float32"), 5), "float32")


def _classes(y: Any) -> Any:
    return ops.cast(ops.argmax(y, axis=-1) if len(y.shape) == 2 else y, "int32")


def metrics_for(classes: int) -> list[keras.metrics.Metric]:
    """What every run is measured by.

    Args:
        classes: With more than five, the five most probable count, too.

    Returns:
        New metrics.
    """
    found = [keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")]
    return [*found, keras.metrics.MeanMetricWrapper(top5_accuracy, name="top5")] if classes > 5 else found
