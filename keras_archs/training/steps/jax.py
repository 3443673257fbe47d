"""The steps on JAX: state in, state out; `keras.distribution.DataParallel` spreads them over devices.

The compiled step sees the global batch, so that normalization, clipping and the loss need no care here.
"""

from typing import TYPE_CHECKING, Any

import jax
import keras

if TYPE_CHECKING:
    from keras_archs.training.trainee import Trainee


def train_step(self: "Trainee", state: Any, data: Any) -> tuple[dict[str, Any], Any]:
    """Forward and backward through each micro-batch in turn, one update, one step of the averages.

    Args:
        self: The model.
        state: Values of its trainable, other, optimizer and metric variables.
        data: (images (N, H, W, C), targets) of all devices.

    Returns:
        The running metrics, and the new state.
    """
    trainable, others, optimizer, metrics = state
    images, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    parts = self.micro_batches
    gradient = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
    total = None
    for i in range(parts):
        # Every parts-th image, so that each device takes its micro-batch from its own images.
        x, y = images[i::parts], targets[i::parts]
        w = None if weights is None else weights[i::parts]
        (loss, (_, y_pred, others, metrics)), new = gradient(
            trainable, others, metrics, x, y, w, training=True, optimizer_variables=optimizer
        )
        total = new if total is None else jax.tree.map(jax.numpy.add, total, new)
        scope = _scope(self, trainable, others, optimizer, metrics)
        with scope:
            self.note_loss(loss)
            self.metrics[0].update_state(loss, sample_weight=x.shape[0])
            logs = self.compute_metrics(x, y, y_pred, w)
        others, metrics = _values(scope, self.non_trainable_variables), _values(scope, self.metrics_variables)
    mean = jax.tree.map(lambda g: g / parts, total)
    trainable, optimizer = self.optimizer.stateless_apply(optimizer, mean, trainable)
    scope = _scope(self, trainable, others, optimizer, metrics)
    with scope:
        self.update_averages()
    return logs, (trainable, _values(scope, self.non_trainable_variables), optimizer, metrics)


def test_step(self: "Trainee", state: Any, data: Any) -> tuple[dict[str, Any], Any]:
    """Add a batch to the running loss and metrics, each example by its weight.

    Args:
        self: The model.
        state: Values of its trainable, other and metric variables.
        data: (images (N, H, W, C), labels (N,), weights (N,)) of all devices.

    Returns:
        The running metrics, and the new state.
    """
    trainable, others, metrics = state
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    y_pred, others = self.stateless_call(trainable, others, images, training=False)
    main = y_pred[0] if isinstance(y_pred, list | tuple) else y_pred
    scope = _scope(self, trainable, others, [], metrics)
    with scope:
        self.metrics[0].update_state(self.evaluation_loss.call(labels, main), sample_weight=weights)
        logs = self.compute_metrics(images, labels, main, weights)
    return logs, (trainable, others, _values(scope, self.metrics_variables))


def _scope(self: "Trainee", trainable: Any, others: Any, optimizer: Any, metrics: Any) -> Any:
    """A scope in which the model's variables have these values, and keep what is assigned to them."""
    variables = [
        *zip(self.trainable_variables, trainable, strict=True),
        *zip(self.non_trainable_variables, others, strict=True),
        *zip(self.optimizer.variables, optimizer, strict=False),
        *zip(self.metrics_variables, metrics, strict=True),
    ]
    return keras.StatelessScope(state_mapping=variables)


def _values(scope: Any, variables: list[keras.Variable]) -> list[Any]:
    return [scope.get_current_value(variable) for variable in variables]
