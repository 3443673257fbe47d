"""What concerns all copies of a model at once: the parts of a training that `Model.fit` has no place for.

On JAX there is one copy, whatever the number of devices, and nothing to do.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_archs.training.trainee import Trainee

if TYPE_CHECKING:
    import tensorflow as tf


def average_statistics(model: Trainee) -> None:
    """Give the moving statistics of batch normalization their mean over the replicas.

    Each replica follows its own images otherwise: evaluation would score as many different models, and a file
    would hold the first one's.

    Args:
        model: Changed in place, on all replicas.
    """
    statistics = [
        variable
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer.non_trainable_variables
    ]
    if model.averages is not None:
        chosen = {id(variable) for variable in statistics}
        pairs = zip(model.averages.sources, model.averages.values, strict=True)
        statistics += [value for source, value in pairs if id(source) in chosen]
    if replicas_of(model) == 1 or not statistics:
        return
    import tensorflow as tf

    def average() -> None:
        context = tf.distribute.get_replica_context()
        # Read on the replica: of a mirrored variable, `strategy.reduce` would take the first copy.
        values = [tf.identity(variable.value) for variable in statistics]
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
        for variable, mean in zip(statistics, means, strict=True):
            variable.value.assign(mean)

    on_replicas(model, "average", average)


def swap_averages(model: Trainee) -> None:
    """Exchange the weights and their averages, on all replicas: before and after the averages are used.

    Args:
        model: Changed in place.
    """
    if model.averages is None:
        return
    pairs = list(zip(model.averages.sources, model.averages.values, strict=True))
    if keras.backend.backend() != "tensorflow":
        for source, value in pairs:
            first, second = keras.ops.copy(source), keras.ops.copy(value)
            source.assign(second)
            value.assign(first)
        return
    import tensorflow as tf

    def swap() -> None:
        for source, value in pairs:
            first, second = tf.identity(source.value), tf.identity(value.value)
            with tf.control_dependencies([first, second]):
                source.value.assign(second)
                value.value.assign(first)

    on_replicas(model, "swap", swap)


def spread_seeds(model: Trainee) -> None:
    """Let each replica drop other units: Keras gives all of them the same random numbers.

    Args:
        model: Changed in place: the first replica keeps its seeds.
    """
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    if replicas_of(model) == 1 or not states:
        return
    import tensorflow as tf

    def spread() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in states:
            offset = tf.cast(tf.stack([replica * 1_000_003, 0]), "int64")
            state.value.assign(tf.cast(tf.cast(state.value, "int64") + offset, state.dtype))

    on_replicas(model, "spread", spread)


def agree(model: Trainee, flag: bool) -> bool:
    """Whether any worker raises its flag; all get the same answer, and wait for it.

    Args:
        model: In training on all workers.
        flag: This worker's.

    Returns:
        The answer.
    """
    if not is_multi_worker(model):
        return flag
    import tensorflow as tf

    def reduce(raised: tf.Tensor) -> tf.Tensor:
        # `identity` gives it a device, by which tf.distribute finds the way.
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(raised))

    reduced = on_replicas(model, "agree", reduce, tf.constant(float(flag)))
    return bool(model.distribute_strategy.experimental_local_results(reduced)[0].numpy() > 0)


def barrier(model: Trainee) -> None:
    """Wait until all workers are here.

    Args:
        model: In training on all workers.
    """
    agree(model, False)


def gathered(strategy: "tf.distribute.Strategy | None", numbers: Sequence[int]) -> np.ndarray:
    """Numbers of all workers; each of them must call it, and gets the same.

    Args:
        strategy: Of the training.
        numbers: This worker's.

    Returns:
        A row for each replica, (replicas, numbers); one row without a strategy.
    """
    if strategy is None:
        return np.array([numbers])
    import tensorflow as tf

    def gather(row: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

    row = tf.constant([numbers], tf.int64)
    found = tf.function(lambda: strategy.run(gather, args=(row,)), autograph=False)()
    return strategy.experimental_local_results(found)[0].numpy()


def first_bad_step(model: Trainee) -> int | None:
    """The first step whose loss was no number on any replica; on several workers all of them must call it.

    Args:
        model: In training.

    Returns:
        Its number, from 1; None if there is none.
    """
    sync(model)
    if is_multi_worker(model):
        import tensorflow as tf

        def gather() -> tf.Tensor:
            own = tf.reshape(tf.cast(model.bad_step.value, tf.int64), (1,))
            return tf.distribute.get_replica_context().all_gather(own, axis=0)

        results = on_replicas(model, "bad_step", gather)
        values = model.distribute_strategy.experimental_local_results(results)[0].numpy()
    else:
        values = local_values(model, model.bad_step)
    found = [int(value) for value in values if int(value) >= 0]
    return min(found) + 1 if found else None


def local_values(model: Trainee, variable: keras.Variable) -> list[np.ndarray]:
    """A variable's value on each replica of this worker.

    Args:
        model: Whose variable it is.
        variable: Any of its variables.

    Returns:
        Arrays.
    """
    if replicas_of(model) == 1:
        return [np.asarray(variable)]
    strategy = model.distribute_strategy
    return [np.asarray(value) for value in strategy.experimental_local_results(variable.value)]


def sync(model: Trainee) -> None:
    """Bring variables up to date: on JAX, `fit` keeps their values to itself during an epoch.

    Args:
        model: In training.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def replicas_of(model: Trainee) -> int:
    """How many copies of the model train.

    Args:
        model: The model.

    Returns:
        1 without a strategy, and on JAX.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    return model.distribute_strategy.num_replicas_in_sync


def is_multi_worker(model: Trainee) -> bool:
    """Whether other processes train along.

    Args:
        model: The model.

    Returns:
        Whether they do.
    """
    return replicas_of(model) > 1 and model.distribute_strategy.extended._in_multi_worker_mode()


def on_replicas(model: Trainee, name: str, function: Callable[..., Any], *values: Any) -> Any:
    """Run a function on every replica, compiled once.

    Args:
        model: Whose strategy has the replicas.
        name: By which the compiled function is kept.
        function: Works on a replica.
        values: Its arguments.

    Returns:
        Its results, one a replica.
    """
    import tensorflow as tf

    strategy = model.distribute_strategy
    if name not in model.replica_functions:
        run = tf.function(lambda *args: strategy.run(function, args=args), autograph=False)
        model.replica_functions[name] = run
    return model.replica_functions[name](*values)


def read(model: Trainee, variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Read variables as they are saved; metrics are summed over replicas, so that all workers must take part.

    Args:
        model: Whose variables they are.
        variables: Any of its and its optimizer's variables.

    Returns:
        Their values.
    """
    sync(model)
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]
