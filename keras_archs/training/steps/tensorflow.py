"""The steps on TensorFlow: for one device, for the replicas of a host, and for several hosts."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from keras_archs.training.trainee import Trainee


def train_step(self: "Trainee", data: Any) -> dict[str, Any]:
    """Forward and backward through each micro-batch in turn, one update, one step of the averages.

    Args:
        self: The model.
        data: This replica's (images (N, H, W, C), targets).

    Returns:
        The running metrics.
    """
    images, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    parts = self.micro_batches
    gradients: list[Any] = []
    for x, y, w in zip(_parts(images, parts), _parts(targets, parts), _parts(weights, parts), strict=True):
        # One after the other: run together, they would need the memory of the whole batch.
        with tf.control_dependencies([g for g in gradients if g is not None]):
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x, y, y_pred, w, training=True) / parts
            new = tape.gradient(loss, self.trainable_variables)
            gradients = [_sum(a, b) for a, b in zip(gradients, new, strict=True)] if gradients else new
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            own = loss * parts * replicas  # Keras' losses are divided by the number of replicas
            self.note_loss(own)
            self.metrics[0].update_state(own, sample_weight=tf.shape(x)[0])
            logs = self.compute_metrics(x, y, y_pred, w)
    self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
    self.update_averages()
    return _for_reduction(logs)


def test_step(self: "Trainee", data: Any) -> dict[str, Any]:
    """Add a batch to the running loss and metrics, each example by its weight.

    Args:
        self: The model.
        data: This replica's (images (N, H, W, C), labels (N,), weights (N,)).

    Returns:
        The running metrics.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = self(images, training=False)
    main = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
    self.metrics[0].update_state(self.evaluation_loss.call(labels, main), sample_weight=weights)
    return _for_reduction(self.compute_metrics(images, labels, main, weights))


def _parts(values: Any, count: int) -> Any:
    """A batch in equal parts; None in as many Nones."""
    return [None] * count if values is None else [values] if count == 1 else tf.split(values, count)


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _for_reduction(logs: dict[str, Any]) -> dict[str, Any]:
    """Logs with an axis where Keras wants to average over workers: over scalars, it fails."""
    if tf.distribute.get_strategy().extended._in_multi_worker_mode():
        return {name: tf.expand_dims(value, 0) for name, value in logs.items()}
    return logs
