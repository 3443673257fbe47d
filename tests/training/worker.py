"""One worker of test_training_workers.py: trains a small model; can kill itself, at a step or in a save."""

import json
import os
import signal
import sys

import keras
from training_helpers import digest, normalized_model, small_config

from keras_archs.training import Options, networks, train
from keras_archs.training.cluster import find_cluster
from keras_archs.training.strategies import make_plan

run_dir, orders = sys.argv[1], json.loads(sys.argv[2])
networks.create_model = normalized_model


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Act(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == orders.get("kill"):
            die()
        if self.steps == orders.get("terminate"):
            signal.raise_signal(signal.SIGTERM)


if "kill_in_save" in orders:
    import safetensors.numpy

    whole, saves = safetensors.numpy.save_file, []

    def half(arrays, path, header):
        saves.append(path)
        whole(arrays, path, header)
        if len(saves) == orders["kill_in_save"]:
            with open(path, "r+b") as file:
                file.truncate(1000)
            die()

    safetensors.numpy.save_file = half

config = small_config(
    run__checkpoint_steps=4, run__sync_batch_norm=True, ema__decay=0.9, augment__mixup=0.2, run__batch_size=8
)
config = config.replaced({"run.seed": orders.get("seed", 0)})
cluster = find_cluster()
plan = make_plan("auto", cluster, config.run.batch_size)
run = train(config, run_dir, plan=plan, options=Options(deadline=60, callbacks=(Act(),)))
print(json.dumps({"digest": digest(run.directory / "last.keras"), "history": run.history}))
