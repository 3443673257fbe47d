"""Optimizers against torch's and timm's numbers (tests/training/golden), and on two devices against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_archs.training.optimizers import LAMB, LARS, SGD, AdamW, RMSprop
from keras_archs.training.schedules import Step

GOLDEN = Path(__file__).parent / "golden" / "optimizers.npz"
# The arguments of ours that are the golden file's, by its names; SHAPES and STEPS are those of its script.
CASES = {
    "sgd": (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "sgd_plain": (SGD, {"weight_decay": 0.1}),
    "sgd_nesterov": (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adamw": (AdamW, {"epsilon": 1e-3, "weight_decay": 0.5}),
    "adam": (AdamW, {"epsilon": 1e-3, "weight_decay": 0.5, "decay": "coupled"}),
    "lamb": (LAMB, {"weight_decay": 0.1}),
    "lamb_clipped": (LAMB, {"weight_decay": 0.1, "global_clipnorm": 3.0}),
    "lamb_always": (LAMB, {"weight_decay": 0.1, "always_adapt": True}),
    "lars": (LARS, {"weight_decay": 0.1, "trust_coefficient": 0.5}),
    "lars_nesterov": (LARS, {"nesterov": True, "weight_decay": 0.1, "trust_coefficient": 0.5}),
    "rmsprop": (RMSprop, {"momentum": 0.9, "epsilon": 0.1, "weight_decay": 0.1}),
    "rmsprop_plain": (RMSprop, {"epsilon": 0.1, "weight_decay": 0.1}),
    "lars_always": (LARS, {"always_adapt": True, "weight_decay": 0.1, "trust_coefficient": 0.5}),
}
OPTIMIZERS = (SGD, AdamW, LAMB, LARS, RMSprop)


def errors(name, steps):
    """Largest difference from the golden numbers after some steps, per variable, in shares of its largest."""
    make, arguments = CASES[name]
    with np.load(GOLDEN) as golden:
        variables = [keras.Variable(golden[f"start{i}"]) for i in range(3)]
        optimizer = make(learning_rate=1.0, **arguments)
        for step in range(steps):
            optimizer.learning_rate = float(golden["rates"][step])
            gradients = [keras.ops.convert_to_tensor(golden[f"grads{i}"][step]) for i in range(3)]
            optimizer.apply(gradients, variables)
        wanted = [golden[f"{name}_{steps}_{i}"] for i in range(3)]
    pairs = zip(variables, wanted, strict=True)
    return [float(np.abs(keras.ops.convert_to_numpy(v) - w).max() / np.abs(w).max()) for v, w in pairs]


def one_step(optimizer, value=2.0, gradient=1.0, shape=(2, 2)):
    """What one step makes of a variable of equal numbers."""
    variable = keras.Variable(np.full(shape, value, "float32"), name="w")
    optimizer.apply([np.full(shape, gradient, "float32")], [variable])
    return float(variable.numpy().flat[0])


def run_child(code, **variables):
    """What a child process prints as its last line, read as JSON."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        **variables,
    }
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout.splitlines()[-1])


def test_steps_equal_those_of_torch_and_timm():
    found = {name: max(errors(name, 12)) for name in CASES}
    assert {name: error for name, error in found.items() if not error < 1e-5} == {}


def test_steps_equal_those_of_torch_and_timm_on_jax():
    names = ["sgd", "adamw", "lamb_clipped", "lars", "rmsprop"]
    code = f"import json, test_training_optimizers as t; print(json.dumps([t.errors(n, 3) for n in {names}]))"
    found = run_child(code, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    assert np.shape(found) == (5, 3)
    assert np.max(found) < 1e-5


TWO_DEVICES = """
import json, keras, numpy as np, tensorflow as tf
from keras_archs.training.optimizers import LAMB, LARS, SGD, AdamW, RMSprop

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(24, 6)).astype("float32"), rng.integers(0, 3, 24)

class Idle(keras.layers.Dense):
    "Has a weight without a gradient."

    def build(self, shape):
        super().build(shape)
        self.idle = self.add_weight(shape=(2,))

def weights(strategy, make, **arguments):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = Idle(8, activation="relu"), keras.layers.Dense(3)
        model = keras.Sequential([keras.Input((6,)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        # One device needs no graph, and to trace one takes longer than the steps.
        model.compile(make(global_clipnorm=0.1, **arguments), loss=loss, run_eagerly=strategy is not mirrored)
    model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])

def distance(make, **arguments):
    two, one = (weights(s, make, **arguments) for s in (mirrored, tf.distribute.get_strategy()))
    return float(np.abs(two - one).max())

sgd = {"learning_rate": 0.5, "momentum": 0.9}
found = {
    "SGD": distance(SGD, weight_decay=0.01, **sgd),
    "AdamW": distance(AdamW, epsilon=1e-2),
    "LAMB": distance(LAMB, epsilon=1e-2),
    "LARS": distance(LARS, learning_rate=0.5, trust_coefficient=0.1),
    "RMSprop": distance(RMSprop, learning_rate=0.1, momentum=0.9, epsilon=1.0),
    "keras": distance(keras.optimizers.SGD, **sgd),
}
print(json.dumps(found))
"""


def test_two_devices_train_as_one_where_gradients_are_clipped():
    found = run_child(TWO_DEVICES)
    assert found.pop("keras") > 1e-3  # so this can fail
    assert found.keys() == {make.__name__ for make in OPTIMIZERS}
    assert max(found.values()) < 1e-6


def test_adams_correction_counts_its_own_updates():
    for make in (AdamW, LAMB):
        places = []
        for start in (0, 500):  # where a training stands that goes on with a new optimizer
            variable = keras.Variable(np.full((2, 2), 2.0, "float32"))
            optimizer = make(0.1)
            optimizer.build([variable])
            optimizer.iterations.assign(start)
            for gradient in (1.0, 0.5, -2.0):
                optimizer.apply([np.full((2, 2), gradient, "float32")], [variable])
                places.append(float(variable[0, 0]))
            assert int(optimizer.iterations) == start + 3
        assert places[:3] == places[3:], make


def test_a_vector_decays_only_if_wanted():
    for make in OPTIMIZERS:
        moved = [
            one_step(make(0.1, weight_decay=decay, decay_norms_and_biases=wanted), shape=(4,))
            for decay, wanted in ((0.0, False), (0.5, False), (0.5, True))
        ]
        assert moved[0] == moved[1] != moved[2], make


def test_decay_by_hand():
    assert one_step(SGD(0.1, weight_decay=0.5)) == pytest.approx(2 - 0.1 * (1 + 0.5 * 2))
    assert one_step(SGD(0.1, weight_decay=0.5), gradient=0.0) == pytest.approx(2 - 0.1 * 0.5 * 2)
    decoupled = SGD(0.1, momentum=0.9, weight_decay=0.5, decay="decoupled")
    variable = keras.Variable(np.full((2, 2), 2.0, "float32"))
    for _ in range(2):
        decoupled.apply([np.zeros((2, 2), "float32")], [variable])
    assert float(variable[0, 0]) == pytest.approx(2 * (1 - 0.1 * 0.5) ** 2)


def test_variables_can_be_left_out_of_the_decay_by_identity():
    left, right = (keras.Variable(np.ones((2, 2), "float32"), name="w") for _ in range(2))
    optimizer = SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[left])
    optimizer.apply([np.zeros((2, 2), "float32")] * 2, [left, right])
    assert float(left[0, 0]) == 1
    assert float(right[0, 0]) == pytest.approx(0.95)


def test_a_rate_factor_acts_like_another_rate():
    for make in OPTIMIZERS:
        arguments = {"weight_decay": 0.5} | ({"decay": "decoupled"} if make in (SGD, RMSprop) else {})
        slow = one_step(make(0.025, **arguments))
        assert one_step(make(0.1, rate_factors={"w": 0.25}, **arguments)) == pytest.approx(slow, rel=1e-6), (
            make
        )
        assert one_step(make(0.1, rate_factors={"w": 0}, **arguments)) == 2, make


def test_optimizers_are_saved_and_loaded():
    for make, given in CASES.values():
        arguments = {**given, "decay_norms_and_biases": True, "rate_factors": {"w": 0.5}}
        optimizer = make(Step(0.1, [1, 3], 0.5), **arguments)
        loaded = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer))))
        assert type(loaded) is make
        assert loaded.get_config() == optimizer.get_config()
        assert arguments.items() <= loaded.get_config().items()


def test_a_saved_model_trains_on(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(inputs))
    model.compile(LAMB(Step(0.1, [1, 3], 0.5), rate_factors={"head/bias": 0.5}), loss="mse")
    x, y = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, y, verbose=0)
    pairs = zip(
        model.weights + model.optimizer.variables, loaded.weights + loaded.optimizer.variables, strict=True
    )
    for old, new in pairs:
        np.testing.assert_array_equal(old, new)


def test_a_gradient_that_is_missing_leaves_its_variable():
    one, other = (keras.Variable(np.ones((2, 2), "float32")) for _ in range(2))
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        SGD(0.1).apply([None, np.ones((2, 2), "float32")], [one, other])
    assert float(one[0, 0]) == 1
    assert float(other[0, 0]) == pytest.approx(0.9)


BAD = {
    r"weight_decay=-1 is not accepted: a number from 0": lambda: SGD(weight_decay=-1),
    r"decay='copled' is not accepted. Did you mean 'coupled'\?": lambda: SGD(decay="copled"),
    r"momentum=1.0 is not accepted: a number from 0 to below 1": lambda: SGD(momentum=1.0),
    r"nesterov=True needs a momentum": lambda: SGD(nesterov=True),
    r"beta_2=1 is not accepted": lambda: AdamW(beta_2=1),
    r"epsilon=nan is not accepted": lambda: LAMB(epsilon=float("nan")),
    r"trust_coefficient='x' is not accepted": lambda: LARS(trust_coefficient="x"),
    r"rate_factors\['w'\]=-1 is not accepted": lambda: LAMB(rate_factors={"w": -1}),
    r"rate_factors names 'W'.* Did you mean 'w'\?": lambda: one_step(SGD(rate_factors={"W": 1})),
    r"global_clip": lambda: SGD(global_clip=1),
}


def test_bad_values_are_named():
    for message, make in BAD.items():
        with pytest.raises(ValueError, match=message):
            make()
