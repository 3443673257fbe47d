"""Run by test_training_jax.py in a process of its own: Keras on JAX, with two CPU devices."""

import json
import sys
from pathlib import Path

import keras
from training_helpers import normalized_model, small_config

from keras_archs.training import Options, networks, train
from keras_archs.training.cluster import find_cluster
from keras_archs.training.strategies import make_plan

networks.create_model = normalized_model
config = small_config(
    run__batch_size=8,
    run__checkpoint_steps=4,
    run__micro_batches=2,
    run__sync_batch_norm=True,
    ema__decay=0.9,
)


class Interrupt(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 6:
            raise KeyboardInterrupt


def trained(strategy, name, callbacks=()):
    plan = make_plan(strategy, find_cluster(), 8)
    run = train(config, Path(sys.argv[1]) / name, plan=plan, options=Options(callbacks=callbacks))
    weights = keras.models.load_model(run.directory / "last.keras").get_weights()
    return {
        "devices": len(plan.devices),
        "weights": [w.tolist() for w in weights],
        "loss": run.history["loss"],
        "val_loss": run.history["val_loss"],
    }


results = {"one": trained("one_device", "one")}
try:
    trained("mirrored", "two", (Interrupt(),))
except KeyboardInterrupt:
    results["interrupted"] = True
results["two"] = trained("mirrored", "two")
json.dump(results, sys.stdout)
