import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from converters_helpers import digits, tiny_cnn
from keras import layers

import converters
from converters.convert import check_contents
from converters.recipes import RECIPES

KERAS_ON_NUMPY = """
import json, sys
import keras, numpy as np
import converters
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
x = np.linspace(-1, 1, 256, dtype="float32").reshape(4, 8, 8, 1)
artifact = converters.convert(model, "float32", progress=False)
converters.verify(artifact, model, x)
artifact.save(sys.argv[1])
print(json.dumps([keras.backend.backend(), np.asarray(model(x)).tolist()]))
"""

ANOTHER_PROCESS = """
import sys
import keras, numpy as np
import converters
model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])
converters.convert(model, "int8", representative_data=data, progress=False).save(sys.argv[3])
"""


class Doubled(keras.layers.Layer):
    """A layer that is not registered with Keras."""

    def call(self, x):
        return 2 * x


class NotInTFLite(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.math.igamma(x, x)


class NotInIntegers(keras.layers.Layer):
    def call(self, x):
        import tensorflow as tf

        return tf.math.cumsum(x, 1) * tf.math.atan2(x, x)


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.ptp(expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_runs_and_passes_its_tolerance(recipe, data, labels, converted, trained):
    report = converters.verify(converted(recipe), trained, data, labels)
    assert report.keras_accuracy > 0.9
    lost = 0.03 if recipe == "weights_int4" else 0.01
    assert report.artifact_accuracy > report.keras_accuracy - lost
    assert report.samples == 300


def test_float_artifact_is_within_1e_4_of_the_range_of_the_logits(data, converted, trained):
    model = trained
    features = keras.Model(model.inputs[0], model.get_layer("head").input)(data)
    kernel, bias = model.get_layer("head").get_weights()
    assert relative_error(converted("float32").logits(data), np.asarray(features) @ kernel + bias) < 1e-4


def test_int8_is_integer_throughout(converted):
    record = converted("int8").record
    assert set(record["tensors_by_dtype"]) == {"int8", "int32"}
    assert record["inputs"][0]["dtype"] == record["outputs"][0]["dtype"] == "int8"
    assert record["inputs"][0]["shape"] == [1, 8, 8, 1]


def test_a_layer_that_would_stay_float_is_an_error():
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, NotInIntegers()(image))
    with pytest.raises(converters.ConversionError, match=r"recipe 'int8': . tensors stayed float"):
        converters.convert(model, "int8", representative_data=digits()[0][:3])


def test_a_foreign_operation_is_an_error():
    contents = {"ops": {"CUSTOM FlexErf": 1}, "tensors_by_dtype": {}, "float_tensors": []}
    with pytest.raises(converters.ConversionError, match="CUSTOM FlexErf is not an operation of TFLite"):
        check_contents(RECIPES["float32"], contents)


def test_the_smaller_types_are_stored(converted):
    assert converted("float16").record["tensors_by_dtype"]["float16"] > 5
    assert converted("dynamic_int8").record["tensors_by_dtype"]["int8"] > 0
    assert "int8" not in converted("float32").record["tensors_by_dtype"]


def test_record_is_json_and_says_how_it_was_made(converted, trained):
    record = json.loads(json.dumps(converted("int8").record))
    assert record["recipe"] == "int8"
    assert record["model"] == {"name": "tiny", "parameters": trained.count_params()}
    assert record["representative_data"]["count"] == 100
    assert record["ops"]["CONV_2D"] == 4
    assert record["versions"]["keras"] == keras.__version__


def test_saved_model_takes_any_batch_size(data, converted):
    artifact = converted("saved_model")
    assert artifact.record["inputs"][0]["shape"] == [None, 8, 8, 1]
    np.testing.assert_allclose(artifact(data[:3]), artifact(data)[:3], atol=1e-6)


def test_same_model_and_data_give_the_same_bytes(converted, trained):
    again = converters.convert(trained, "int8", representative_data=digits()[0][:100], progress=False)
    assert again.files == converted("int8").files
    assert again.record == converted("int8").record


def test_another_process_gives_the_same_bytes(tmp_path, shared, converted):
    expected = converted("int8")
    np.save(tmp_path / "data.npy", digits()[0][:100])
    files = [shared / "trained.keras", tmp_path / "data.npy", tmp_path / "artifact"]
    command = [sys.executable, "-c", ANOTHER_PROCESS, *files]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    assert converters.Artifact.load(tmp_path / "artifact").files == expected.files


def test_the_model_is_left_as_it_was():
    model = tiny_cnn()
    model.compile("sgd", "mse")
    model.get_layer("stem").trainable = False
    before = (model.to_json(), model.get_weights(), model.optimizer, [x.trainable for x in model.layers])
    artifact = converters.convert(model, "saved_model")
    converters.verify(artifact, model, digits()[0][:8])
    after = (model.to_json(), model.get_weights(), model.optimizer, [x.trainable for x in model.layers])
    assert before[0] == after[0]
    assert before[2:] == after[2:]
    assert all(map(np.array_equal, before[1], after[1]))


def test_custom_layer_nested_model_and_awkward_names(data):
    inner = keras.Sequential([layers.Conv2D(4, 3, name="a b:c"), Doubled(), layers.Flatten()], name="inner")
    image = keras.Input((8, 8, 1))
    top = keras.Sequential([keras.Input((144,)), layers.Dense(5, activation="softmax")], name="top")
    model = keras.Model([image], top(inner(image)), name="outer")
    report = converters.verify(converters.convert(model, "float32"), model, data)
    assert report.compared == "logits"


def test_mixed_precision_model_is_converted_in_float32(data):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_cnn()
        artifact = converters.convert(model, "float32")
        converters.verify(artifact, model, data)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)
    assert set(artifact.record["tensors_by_dtype"]) == {"float32", "int32"}
    assert model.get_layer("stem").dtype_policy.name == "mixed_bfloat16"


def test_open_size_is_settled_by_input_shape():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image)))
    with pytest.raises(ValueError, match=r"leaves its size open.*give input_shape"):
        converters.convert(model, "saved_model")
    artifact = converters.convert(model, "saved_model", input_shape=(9, 7, 3))
    assert artifact(np.zeros((2, 9, 7, 3), "float32")).shape == (2, 4)


def test_unbuilt_sequential_needs_input_shape():
    model = keras.Sequential([layers.Conv2D(4, 3), layers.Flatten()])
    with pytest.raises(ValueError, match="not built: give input_shape"):
        converters.convert(model, "saved_model")
    assert converters.convert(model, "saved_model", input_shape=(5, 5, 1)).record["outputs"][0]["shape"] == [
        None,
        36,
    ]


@pytest.mark.parametrize("recipe", ["float32", "saved_model"])
def test_several_outputs_come_as_a_list_in_the_order_of_the_model(recipe, data):
    image = keras.Input((8, 8, 1))
    flat, sizes = layers.Flatten()(image), (2, 7, 3, 5, *range(8, 16))
    model = keras.Model(image, [layers.Dense(n, activation="softmax")(flat) for n in sizes])
    artifact = converters.convert(model, recipe)
    for got, expected in zip(artifact(data), model(data), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert not artifact.record["ends_in_softmax"]
    with pytest.raises(ValueError, match="one output"):
        converters.verify(artifact, model, data)


def test_models_that_are_refused():
    two = [keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")]
    flat = keras.Input((5,))
    text = keras.Input((8, 8, 1), dtype="string")
    fixed = keras.Input((8, 8, 1), batch_size=4)

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    cases = {
        r"2 inputs \(left, right\)": keras.Model(two, layers.Add()(two)),
        r"takes \(None, 5\)": keras.Model(flat, layers.Dense(1)(flat)),
        "takes string input": keras.Model(text, text),
        r"takes \(4, 8, 8, 1\)": keras.Model(fixed, layers.Flatten()(fixed)),
        "subclassed": Subclassed(),
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message):
            converters.convert(model, "float32")
    with pytest.raises(TypeError, match="model_or_path is a list"):
        converters.convert([], "float32")
    with pytest.raises(ValueError, match=r"input_shape=\(9, 8, 1\) disagrees"):
        converters.convert(tiny_cnn(), "float32", input_shape=(9, 8, 1))
    with pytest.raises(ValueError, match=r"input_shape=\(8, 8\) must be three"):
        converters.convert(tiny_cnn(), "float32", input_shape=(8, 8))


def test_a_model_beyond_two_gigabytes_is_refused_at_once():
    with keras.StatelessScope(initialize_variables=False):
        image = keras.Input((32, 32, 3))
        model = keras.Model(image, layers.Dense(200_000)(layers.Flatten()(image)), name="huge")
        with pytest.raises(ValueError, match=r"'huge' has 2\.5 GB of float32 weights; less than 2\.1 GB"):
            converters.convert(model, "float32")


def test_int8_without_data_is_refused():
    with pytest.raises(ValueError, match="representative_data=None, but recipe 'int8'"):
        converters.convert(tiny_cnn(), "int8")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_model_files(tmp_path, suffix, data):
    model = tiny_cnn()
    path = tmp_path / f"model{suffix}"
    model.save(path)
    converters.verify(converters.convert(path, "saved_model"), model, data)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"model_or_path='.*' is truncated"):
        converters.convert(path, "saved_model")
    with pytest.raises(FileNotFoundError, match=r"model_or_path='.*' is not a file"):
        converters.convert(tmp_path / f"none{suffix}", "saved_model")


def test_weights_only_file_is_refused(tmp_path):
    tiny_cnn().save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="holds weights only"):
        converters.convert(tmp_path / "a.weights.h5", "saved_model")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"must end in .keras or .h5"):
        converters.convert(tmp_path / "a.txt", "saved_model")


def test_the_first_real_error_is_shown():
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, NotInTFLite(name="odd_one")(image))
    with pytest.raises(
        converters.ConversionError, match=r"tf.Igamma.*nor a flex op \(in .*odd_one"
    ) as caught:
        converters.convert(model, "float32")
    assert len(str(caught.value)) < 300
    assert "Traceback" in caught.value.log


def test_a_model_that_cannot_be_traced_says_so():
    class Broken(keras.layers.Layer):
        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

        def call(self, x):
            raise RuntimeError("not today")

    image = keras.Input((8, 8, 1))
    with pytest.raises(
        converters.ConversionError, match=r"cannot be exported for images \(8, 8, 1\).*not today"
    ):
        converters.convert(keras.Model(image, Broken()(image)), "saved_model")


def test_a_full_disk_is_told_without_tensorflows_node(monkeypatch):
    def full(*_):
        raise RuntimeError("{{function_node __wrapped__SaveV2_CPU:0}} /tmp/x; No space left on device")

    monkeypatch.setattr(sys.modules["converters.convert"], "export", full)
    image = keras.Input((8, 8, 1))
    with pytest.raises(converters.ConversionError, match=r"images \(8, 8, 1\): /tmp/x; No space left"):
        converters.convert(keras.Model(image, layers.Flatten()(image)), "saved_model")


def test_parent_on_another_backend(tmp_path):
    command = [sys.executable, "-c", KERAS_ON_NUMPY, str(tmp_path / "artifact")]
    done = subprocess.run(
        command, env={**os.environ, "KERAS_BACKEND": "numpy"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    backend, expected = json.loads(done.stdout)
    x = np.linspace(-1, 1, 256, dtype="float32").reshape(4, 8, 8, 1)
    assert backend == "numpy"
    np.testing.assert_allclose(converters.Artifact.load(tmp_path / "artifact")(x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_of_integer_images(kind):
    """As phones are given them: raw pixels in, scaling inside the model."""
    steps = [layers.Rescaling(1 / 127.5, -1), layers.Conv2D(8, 3, activation="relu"), layers.Flatten()]
    steps.append(layers.Dense(4, activation="softmax"))
    image = x = keras.Input((8, 8, 3), dtype="uint8")
    if kind == "functional":
        for step in steps:
            x = step(x)
        model = keras.Model(image, x)
    else:
        model = keras.Sequential([image, *steps])
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype("uint8")
    for recipe in ("float32", "int8"):
        artifact = converters.convert(model, recipe, representative_data=pixels)
        assert converters.verify(artifact, model, pixels).passed
    assert artifact.record["inputs"][0]["dtype"] == "int8"
    np.testing.assert_allclose(artifact.record["inputs"][0]["scale"], 1.0, atol=0.01)
