"""Run by test_training_replicas.py in a process of its own, since two CPUs must be set up first."""

import json
import sys
import tempfile

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import contextlib  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402
from training_helpers import digest, normalized_model, small_config, tiny_model  # noqa: E402

from keras_archs.training import Options, networks, replicas, train, trainer  # noqa: E402
from keras_archs.training.cluster import find_cluster  # noqa: E402
from keras_archs.training.losses import CrossEntropy  # noqa: E402
from keras_archs.training.optimizers import LAMB, SGD  # noqa: E402
from keras_archs.training.strategies import make_plan  # noqa: E402
from keras_archs.training.trainee import Trainee  # noqa: E402

STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(32, 8, 8, 3)).astype("float32")
LABELS = RANDOM.integers(0, 7, 32).astype("int32")


def trained(strategy, build, optimizer, *, synchronized=False, order=range(8), drop_rate=0.0, **options):
    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else contextlib.nullcontext():
        network = build("", classes=7, classifier_activation=None, drop_rate=drop_rate)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = synchronized
        model = Trainee(network, **options)
        model.compile(optimizer(), loss=CrossEntropy())
        model.optimizer.build(model.trainable_variables)
    if drop_rate:
        replicas.spread_seeds(model)
    rows = np.arange(32).reshape(4, 8)[:, list(order)].reshape(-1)
    data = tf.data.Dataset.from_tensor_slices((IMAGES[rows], LABELS[rows])).batch(8).repeat()
    model.history = model.fit(data, steps_per_epoch=4, epochs=1, verbose=0, shuffle=False).history
    return model


def distance(build, optimizer, one=None, **options):
    """Largest difference of any weight between two replicas of batch 4 and one device of batch 8."""
    two = trained(STRATEGY, build, optimizer, **options)
    alone = trained(None, build, optimizer, **(options if one is None else one))
    pairs = zip(two.weights, alone.weights, strict=True)
    worst = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    return {"weights": worst, "loss": abs(two.history["loss"][0] - alone.history["loss"][0])}


def sgd():
    return SGD(0.3, momentum=0.9, weight_decay=1e-2)


results = {
    "plain": distance(tiny_model, sgd),
    "synchronized": distance(normalized_model, sgd, synchronized=True),
    "clipped": distance(tiny_model, lambda: SGD(0.3, momentum=0.9, global_clipnorm=0.1)),
    "keras_clips_first": distance(tiny_model, lambda: keras.optimizers.SGD(0.3, 0.9, global_clipnorm=0.1)),
    "micro_batches": distance(tiny_model, sgd, one={}, micro_batches=2),
    "micro_batches_synchronized": distance(
        normalized_model,
        sgd,
        synchronized=True,
        micro_batches=2,
        # Each half of the step is normalized alone, and holds the first half of what each replica has.
        one={"synchronized": True, "micro_batches": 2, "order": (0, 1, 4, 5, 2, 3, 6, 7)},
    ),
    "averages": distance(tiny_model, lambda: LAMB(0.01), ema_decay=0.8),
}
model = trained(STRATEGY, normalized_model, sgd, ema_decay=0.5)
mean = model.get_layer("bn").moving_mean
own = model.averages.values[[v is mean for v in model.averages.sources].index(True)]
before = [replicas.local_values(model, variable) for variable in (mean, own)]
replicas.average_statistics(model)
after = [replicas.local_values(model, variable) for variable in (mean, own)]
results["statistics"] = {
    "apart": min(float(np.abs(a - b).max()) for a, b in before),
    "together": max(float(np.abs(a - b).max()) for a, b in after),
    "mean": max(float(np.abs(a[0] - np.mean(b, axis=0)).max()) for a, b in zip(after, before, strict=True)),
}
weights, averages = replicas.local_values(model, mean), replicas.local_values(model, own)
replicas.swap_averages(model)
results["swapped"] = all(map(np.array_equal, replicas.local_values(model, mean), averages)) and all(
    map(np.array_equal, replicas.local_values(model, own), weights)
)
model = trained(STRATEGY, tiny_model, sgd, drop_rate=0.5)
masks = STRATEGY.run(lambda: model.get_layer("drop")(tf.ones((1, 8)), training=True))
results["masks"] = [np.asarray(mask).tolist() for mask in STRATEGY.experimental_local_results(masks)]

# 21 images, the last step filled up with copies of weight 0, in an order that both replicas share
numbers = np.arange(24) % 21
rows = (IMAGES[numbers], LABELS[numbers], (np.arange(24) < 21).astype("float32"))
data = tf.data.Dataset.from_tensor_slices(rows).batch(8)
model = trained(STRATEGY, tiny_model, sgd)
found = model.evaluate(data, return_dict=True, verbose=0)
alone = np.asarray(model(IMAGES[:21]))
shares = alone - np.log(np.exp(alone).sum(axis=1, keepdims=True))
results["evaluation"] = {
    "loss": found["loss"] + float(shares[np.arange(21), LABELS[:21]].mean()),
    "accuracy": found["accuracy"] - float(np.mean(alone.argmax(axis=1) == LABELS[:21])),
}

# Dropout, frozen layers, statistics that each replica has for itself: interrupted, and resumed.
networks.create_model = normalized_model
config = small_config(
    run__batch_size=8,
    run__checkpoint_steps=3,
    finetune__frozen_epochs=1,
    model__drop_rate=0.3,
    ema__decay=0.9,
)


class Interrupt(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        Interrupt.steps += 1
        if Interrupt.steps in (5, 12):
            raise KeyboardInterrupt


def run(folder, callbacks=()):
    # The strategy of this process: a second one could meet the collectives of the first.
    plan = make_plan("mirrored", find_cluster(), 8)
    try:
        found = train(config, folder, plan=plan, options=Options(callbacks=callbacks))
    except KeyboardInterrupt:
        return None
    return digest(found.directory / "last.keras")


trainer.start = lambda plan, deadline: STRATEGY
with tempfile.TemporaryDirectory() as folder:
    stop = (Interrupt(),)
    results["interrupted"] = [run(f"{folder}/parts", stop), run(f"{folder}/parts", stop)]
    results["resumed"] = [run(f"{folder}/parts"), run(f"{folder}/whole")]
json.dump(results, sys.stdout)
