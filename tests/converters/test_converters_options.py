"""What `convert` can be asked for beyond a recipe. A conversion takes seconds: tests share them."""

import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from converters_helpers import digits, tiny_cnn
from graph_builder import run
from keras import layers

import converters
from converters.arena import micro_arena
from converters.artifact import TFLITE
from converters.graph import Graph, Quantization
from converters.metadata import Metadata, read_metadata
from converters.plan import CORRECTIONS
from converters.probe import probe
from converters.runners import dequantize, quantize
from keras_archs.modes import Mode

# What TensorFlow's converter makes of model files and samples, in one process: triples of paths.
STOCK = """
import sys, tempfile
import keras, numpy as np, tensorflow as tf
from converters.saved_model import export_saved_model
paths = iter(sys.argv[1:])
for source, samples, result in zip(paths, paths, paths):
    model, data = keras.models.load_model(source), np.load(samples)
    with tempfile.TemporaryDirectory() as folder:
        export_saved_model(model, model.inputs[0].shape[1:], 1, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        open(result, "wb").write(converter.convert())
"""

CALIBRATING = digits()[0][:100]
NAMES = [f"class {i}" for i in range(10)]
OWN_MODE = Mode((100.0, 120.0, 140.0), (50.0, 60.0, 70.0), bgr=True)


@pytest.fixture(autouse=True)
def clean_state():
    """The same random weights in every test; what tests share is left alone."""
    keras.utils.set_random_seed(0)


class Odd(keras.layers.Layer):
    """What TFLite has no operation for."""

    def call(self, x):
        return keras.ops.erfinv(x)


def noise(count, size, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, channels)).astype(np.float32)


def dark_photos(count, size, seed=0):
    """Images of bytes, none above 200."""
    return np.random.default_rng(seed).integers(0, 201, (count, size, size, 3)).astype(np.uint8)


def with_statistics(model, data):
    """Give the batch norms the statistics of data."""
    for _ in range(15):
        model(data, training=True)
    return model


def every_pattern():
    """What the stock converter leaves in pieces, in one small network."""

    def norm(x):
        return layers.BatchNormalization(momentum=0.5)(x)

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(norm(layers.Conv2D(16, 7, 2, "same", use_bias=False)(image)))
    shared = layers.Add()([x, norm(layers.Conv2D(16, 3, padding="same", use_bias=False)(x))])
    preactivated = layers.Conv2D(16, 1)(layers.ReLU()(norm(shared)))
    x = layers.ReLU()(shared)
    pooled = layers.Conv2D(8, 1, activation="relu")(layers.AveragePooling2D(3, 1, "same")(x))
    x = layers.Concatenate()([pooled, layers.Conv2D(16, 3, padding="same")(x), preactivated])
    x = layers.MaxPooling2D(1, 2)(x)
    x = layers.AveragePooling2D(2, 2)(x)
    x = layers.Conv2D(32, 3, activation="relu")(layers.GroupNormalization(8)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x), name="patterns")


@pytest.fixture(scope="module")
def patterns():
    """The network of all patterns, with statistics, and its calibration data."""
    keras.utils.set_random_seed(0)
    data = noise(64, 32)
    return with_statistics(every_pattern(), data), data


@pytest.fixture(scope="module")
def ours(patterns):
    model, data = patterns
    return converters.convert(model, "int8", representative_data=data)


@pytest.fixture(scope="module")
def stock(tmp_path_factory, shared, patterns):
    """TensorFlow's own int8 models of the trained network and of all patterns."""
    import converters_helpers

    converters_helpers.trained(shared)  # So that its file is there.
    folder = tmp_path_factory.mktemp("stock")
    patterns[0].save(folder / "patterns.keras")
    np.save(folder / "patterns.npy", patterns[1])
    np.save(folder / "digits.npy", CALIBRATING)
    paths = [shared / "trained.keras", folder / "digits.npy", folder / "digits.tflite"]
    paths += [folder / f"patterns.{suffix}" for suffix in ("keras", "npy", "tflite")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-c", STOCK, *paths], check=True, capture_output=True, env=environment)
    return {name: (folder / f"{name}.tflite").read_bytes() for name in ("digits", "patterns")}


def described(content, end):
    """An end of a model, as an interpreter describes it."""
    (tensor,) = getattr(Graph(content), end)
    quantization = (float(tensor.quantization.scale[0]), int(tensor.quantization.zero_point[0]))
    return {"dtype": np.dtype(tensor.dtype.lower()).type, "quantization": quantization}


def integers(content, images, delegate=True):
    """The int8 results for float images, (N, classes), as int32."""
    given = quantize(images, described(content, "inputs"))
    results = run(content, *(image[np.newaxis] for image in given), delegate=delegate)
    return np.concatenate([result[0] for result in results]).astype(np.int32)


def signal_to_noise(model, content, images):
    """Of an int8 model's results, in dB."""
    expected = np.asarray(model(images))
    got = dequantize(integers(content, images), described(content, "outputs"))
    return 10 * np.log10(np.sum(expected**2) / np.sum((expected - got) ** 2))


def weights(content):
    """The int8 weights of every layer, in the order of execution."""
    ops = Graph(content).of_kind("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [op.inputs[1] for op in ops]


def test_without_rewrites_it_is_what_tensorflow_writes(trained, stock):
    mine = converters.convert(
        trained, "int8", representative_data=CALIBRATING, rewrite="none", ranges="minmax"
    )
    assert mine.record["rewrites"] == {}
    content, other = mine.files[TFLITE], stock["digits"]
    assert [op.kind for op in Graph(content).ops] == [op.kind for op in Graph(other).ops]
    for one, two in zip(weights(content), weights(other), strict=True):
        np.testing.assert_array_equal(one.data, two.data)
        np.testing.assert_allclose(one.quantization.scale, two.quantization.scale, rtol=1e-6)
    ranges = [[op.output.quantization for op in Graph(model).ops] for model in (content, other)]
    outputs = [op.output.name for op in Graph(content).ops]
    differing = [
        name
        for name, one, two in zip(outputs, *ranges, strict=True)
        # The two add up in another order, so that a range can differ in its last bit.
        if abs(one.scale / two.scale - 1) > 1e-5 or one.zero_point != two.zero_point
    ]
    # Where a sum is computed in place, TensorFlow's calibrator takes it for the summand as well.
    assert len(differing) == 1
    assert "separable_conv2d" in differing[0]
    layer = next(layer for layer in trained.layers if "separable_conv2d" in layer.name)
    summand = np.asarray(keras.Model(trained.inputs[0], layer.output)(CALIBRATING))
    scale = ranges[0][outputs.index(differing[0])].scale
    np.testing.assert_allclose(scale, np.ptp(summand) / 255, rtol=1e-5)


def test_a_generator_of_pairs_gives_the_bytes_of_the_array(trained, converted):
    pairs = ((CALIBRATING[i : i + 7], np.zeros(7)) for i in range(0, 100, 7))
    again = converters.convert(trained, "int8", representative_data=pairs)
    assert again.files == converted("int8").files
    assert again.record == converted("int8").record


def test_all_patterns_run_in_one_partition(ours, stock):
    tried = probe(ours.files[TFLITE], "it")
    assert tried["partitions"] == 1
    assert tried["ops_outside"] == {}
    assert probe(stock["patterns"], "it")["partitions"] > 3
    assert set(ours.record["rewrites"]) >= {
        "average_pool_behind_conv", "average_pool_as_depthwise", "affine_as_depthwise",
        "stem_as_space_to_depth", "relu_into_add", "strided_pool_as_depthwise", "roots_in_float",
    }  # fmt: skip


def test_the_padding_of_the_stem_is_the_integer_0():
    """Where images go from -1 to 1, or nearly: then XNNPACK pads inside of the convolution."""
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 7, 2, activation="relu")(layers.ZeroPadding2D(3)(image))
    model = keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    data = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)
    artifact = converters.convert(model, "int8", representative_data=data)
    blocks, pad, conv = Graph(artifact.files[TFLITE]).ops[:3]
    assert (blocks.kind, pad.kind, conv.kind) == ("SPACE_TO_DEPTH", "PAD", "CONV_2D")
    for tensor in (blocks.inputs[0], blocks.output, pad.output):
        assert tensor.quantization.zero_point.tolist() == [0]
        assert tensor.quantization.scale[0] == pytest.approx(1 / 127, rel=1e-3)


def test_rewrites_cost_no_precision(patterns, ours, stock):
    images = noise(100, 32, seed=1)
    mine, other = (
        signal_to_noise(patterns[0], content, images) for content in (ours.files[TFLITE], stock["patterns"])
    )
    assert mine > 20
    assert mine > other - 0.3


def test_the_delegate_changes_a_value_by_one_step_at_most(ours):
    """In front of the group norm, which divides by a rounded variance and so enlarges a step."""
    graph = Graph(ours.files[TFLITE])
    graph.outputs = [next(graph.of_kind("RESHAPE")).inputs[0]]
    graph._signatures = []
    graph.remove_dead()
    assert len(graph.ops) > 12
    images, content = noise(30, 32, seed=1), graph.to_bytes()
    alone, delegated = (integers(content, images, delegate) for delegate in (False, True))
    assert np.ptp(alone) > 100
    assert np.abs(alone - delegated).max() <= 1


def test_what_has_an_average_pool_keeps_it(patterns):
    """XNNPACK has none, which the rewrites make up for; a micro-controller's runtime has."""
    model, data = patterns
    artifact = converters.convert(model, representative_data=data[:8], target="android_npu")
    assert artifact.recipe == "int8"
    assert artifact.record["ops"]["AVERAGE_POOL_2D"] == 2
    rewrites = {"average_pool_behind_conv", "affine_as_depthwise", "square_as_product"}
    assert set(artifact.record["rewrites"]) == rewrites


def test_edgetpu_gets_no_float_operation(patterns, ours):
    model, data = patterns
    artifact = converters.convert(model, "int8", representative_data=data, target="edgetpu")
    assert set(artifact.record["tensors_by_dtype"]) == {"int8", "int32"}
    assert "roots_in_float" not in artifact.record["rewrites"]
    assert artifact.record["target"] == "edgetpu"
    assert ours.record["tensors_by_dtype"]["float32"] > 0


@pytest.fixture(scope="module")
def phone():
    """A network that pads and wants BGR, for phones, from images that leave a part of 0..255 out."""
    keras.utils.set_random_seed(0)
    photos = dark_photos(48, 16)
    model = with_statistics(
        tiny_cnn(size=16, channels=3),
        ((photos[..., ::-1] - np.float32(OWN_MODE.mean)) / np.float32(OWN_MODE.deviation)),
    )
    names = {"": NAMES, "de": [f"Klasse {i}" for i in range(10)]}
    return model, converters.convert(
        model,
        "int8",
        representative_data=photos,
        target="mobile",
        include_preprocessing=OWN_MODE,
        labels=names,
    )


def test_mobile_takes_and_gives_bytes(phone):
    (image,), (scores,) = phone[1].record["inputs"], phone[1].record["outputs"]
    assert (image["dtype"], scores["dtype"]) == ("uint8", "uint8")
    # Clients write the bytes of their pixels without a look at the scale.
    assert (image["scale"], image["zero_point"]) == (1.0, 0)
    assert (scores["scale"], scores["zero_point"]) == (1 / 256, 0)


def test_mobile_tells_the_labels_in_every_language(phone):
    metadata = read_metadata(phone[1].files[TFLITE])
    (image,), (scores,) = metadata.inputs, metadata.outputs
    assert [(labels.locale, labels.names[3]) for labels in scores.labels] == [
        ("", "class 3"),
        ("de", "Klasse 3"),
    ]
    assert (image.mean, image.std) == ((0.0,), (1.0,))  # Nothing is left to the client.


def test_a_padded_stem_gets_the_arithmetic_in_front(phone):
    model, artifact = phone
    assert artifact.record["preprocessing"] == "1x1 convolution in front"
    report = converters.verify(artifact, model, dark_photos(50, 16, seed=1))
    assert report.sqnr_db > 25


@pytest.fixture(scope="module")
def page():
    """A network with a stem that does not pad, for web pages."""
    keras.utils.set_random_seed(0)
    image = keras.Input((20, 20, 3))
    x = layers.BatchNormalization(momentum=0.5)(layers.Conv2D(16, 6, 2, use_bias=False)(image))
    x = layers.Conv2D(24, 3, activation="relu")(layers.ReLU()(x))
    model = keras.Model(image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    photos = dark_photos(48, 20)
    with_statistics(model, (photos / np.float32(127.5) - 1))
    return model, converters.convert(
        model, "int8", representative_data=photos, target="browser", include_preprocessing="tf"
    )


def test_a_stem_that_does_not_pad_takes_the_arithmetic_in(page):
    model, artifact = page
    assert artifact.record["preprocessing"] == "first convolution"
    assert artifact.record["rewrites"]["stem_as_space_to_depth"] == 1
    assert artifact.record["ops"]["CONV_2D"] == 2
    report = converters.verify(artifact, model, dark_photos(50, 20, seed=1))
    assert report.sqnr_db > 25


def test_browser_has_float_ends_and_integers_between(page):
    record = page[1].record
    assert record["inputs"][0]["dtype"] == record["outputs"][0]["dtype"] == "float32"
    assert record["tensors_by_dtype"]["float32"] == 2
    assert (record["ops"]["QUANTIZE"], record["ops"]["DEQUANTIZE"]) == (1, 1)
    # A step is a step of a byte, though no sample is brighter than 200; blocks of pixels keep it.
    for op in Graph(page[1].files[TFLITE]).ops[:2]:
        assert op.output.quantization == Quantization(np.float32([1]), np.array([-128]))


@pytest.fixture(scope="module")
def micro(shared):
    import converters_helpers

    return converters.convert(
        converters_helpers.trained(shared),
        "int8",
        representative_data=CALIBRATING,
        target="micro",
        ranges="mse",
        corrections=CORRECTIONS,
    )


def test_micro_has_one_scale_for_a_dense_layer(micro, converted):
    dense, usual = (weights(artifact.files[TFLITE])[-1] for artifact in (micro, converted("int8")))
    assert (len(dense.quantization.scale), len(usual.quantization.scale)) == (1, 10)
    assert micro.record["inputs"][0]["dtype"] == micro.record["outputs"][0]["dtype"] == "int8"


def test_so_it_has_with_16_bits(trained):
    artifact = converters.convert(trained, "int16x8", representative_data=CALIBRATING[:8], target="micro")
    assert len(weights(artifact.files[TFLITE])[-1].quantization.scale) == 1
    assert artifact.record["plan"]["input_type"] == artifact.record["inputs"][0]["dtype"] == "int16"


def test_a_target_says_what_it_will_not_run_and_what_it_needs(micro, phone):
    assert micro.record["lint"] == []
    assert micro.record["arena_bytes"] == micro_arena(Graph(micro.files[TFLITE])).planned_bytes
    assert phone[1].record["lint"] == []


def test_a_target_that_takes_no_grey_image_says_so(trained):
    artifact = converters.convert(
        trained, "float32", target="mobile", include_preprocessing=Mode((127.5,), (127.5,), bgr=False)
    )
    (finding,) = [one for one in artifact.record["lint"] if one["severity"] == "error"]
    assert "its shape is (1, 8, 8, 1), and mobile feeds (1, height, width, 3)" in finding["problem"]


def test_several_results_may_be_float_around_integers():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    model = keras.Model(image, [layers.Dense(n)(layers.GlobalAveragePooling2D()(x)) for n in (3, 5)])
    artifact = converters.convert(model, "int8", representative_data=noise(8, 8), target="browser")
    assert [output["dtype"] for output in artifact.record["outputs"]] == ["float32", "float32"]
    for expected, got in zip(model.predict(noise(8, 8), verbose=0), artifact(noise(8, 8)), strict=True):
        assert np.abs(expected - got).max() < 0.05 * np.ptp(expected)


def test_the_best_recipe_of_a_target_is_the_usual_one(trained):
    artifact = converters.convert(trained, target="gpu_delegate")
    assert artifact.recipe == "float16"
    assert artifact.record["plan"]["input_type"] == "float32"


def test_corrections_and_ranges_are_recorded(micro, trained, data):
    record = json.loads(json.dumps(micro.record))
    assert record["plan"]["corrections"] == list(CORRECTIONS)
    assert record["plan"]["ranges"] == "mse"
    assert record["corrected"] > 0
    assert record.keys() >= {"absorbed", "centered", "equalized"}
    assert converters.verify(micro, trained, data).sqnr_db > 20


def test_int16x8_is_equalized_and_chooses_its_ranges(trained, data, converted):
    artifact = converters.convert(
        trained,
        "int16x8",
        representative_data=CALIBRATING,
        ranges="entropy",
        corrections=["equalization"],
    )
    assert {"int16", "int8", "int64"} <= set(artifact.record["tensors_by_dtype"])
    assert "float32" not in artifact.record["tensors_by_dtype"]
    assert artifact.record["equalized"] > 0
    assert artifact.files != converted("int16x8").files
    assert converters.verify(artifact, trained, data).passed


@pytest.fixture(scope="module")
def outlier():
    """A network that int8 ruins in one place: a channel that is 200 times as large as the others."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="large")(image)
    x = layers.Conv2D(16, 3, activation="relu", name="next")(x)
    model = keras.Model(image, layers.Dense(5, name="head")(layers.Flatten()(x)))
    kernel, bias = model.get_layer("large").get_weights()
    model.get_layer("large").set_weights([kernel * np.where(np.arange(16) == 3, 200, 1), bias])
    kernel, bias = model.get_layer("next").get_weights()
    kernel[:, :, 3] /= 200
    model.get_layer("next").set_weights([kernel, bias])
    return model, noise(40, 8)


def test_tolerance_keeps_what_it_takes_in_float(outlier):
    model, data = outlier
    wanted = converters.Tolerance(min_sqnr_db=30)
    artifact = converters.convert(model, "int8", representative_data=data, tolerance=wanted)
    assert 1 <= len(artifact.record["float_layers"]) <= 2
    convs = Graph(artifact.files[TFLITE]).of_kind("CONV_2D", "FULLY_CONNECTED")
    assert {conv.inputs[0].dtype for conv in convs} == {"INT8", "FLOAT32"}
    assert any("large" in line or "next" in line for line in artifact.record["blame"])
    assert artifact.record["plan"]["tolerance"]["min_sqnr_db"] == 30
    assert converters.verify(artifact, model, data[:32]).sqnr_db >= 30


def test_a_tolerance_that_cannot_be_met_says_what_came_nearest(outlier):
    model, data = outlier
    wanted = converters.Tolerance(min_sqnr_db=300)
    with pytest.raises(converters.ConversionError, match=r"tolerance: .*300.* not met .*the best was"):
        converters.convert(model, "int8", representative_data=data[:8], tolerance=wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "int"}, r"recipe='int' is not accepted. Did you mean 'int8'"),
        ({"ranges": "percentil"}, r"ranges='percentil' is not accepted. Did you mean 'percentile'"),
        ({"corrections": "equalisation"}, r"corrections='equalisation' .* Did you mean 'equalization'"),
        ({"corrections": ["bias"]}, r"corrections='bias' is not accepted.*'bias_absorption'"),
        ({"rewrite": "relu_in_add"}, r"rewrite='relu_in_add' is not accepted. Did you mean 'relu_into_add'"),
        ({"rewrite": "None"}, r"rewrite='None' is not accepted. Did you mean 'none'"),
        ({"rewrite": ["none", "exact_border"]}, r"rewrite='none' is not accepted"),
        (
            {"recipe": "saved_model", "rewrite": "dead_channels"},
            r"rewrite='dead_channels' is for TFLite files",
        ),
        ({"recipe": "float16", "ranges": "mse"}, r"ranges='mse' is for recipes with integer activations"),
        ({"recipe": "float32", "corrections": "equalization"}, r"corrections=\('equalization',\) is for rec"),
        ({"target": "edge_tpu"}, r"target='edge_tpu' is not accepted. Did you mean 'edgetpu'"),
        ({"include_preprocessing": "torsch"}, r"include_preprocessing='torsch' .* Did you mean 'torch'"),
        ({"include_preprocessing": True}, r"is for models of keras_archs.*give the name of a mode \(caffe"),
        (
            {"include_preprocessing": OWN_MODE},
            r"mean=\(100.0, 120.0, 140.0\) is for 3 channels; the image has 1",
        ),
        ({"include_preprocessing": Mode((0.0,), (0.0,))}, r"deviation=\(0.0,\) divides by zero"),
        (
            {"target": "edgetpu", "recipe": "float16"},
            r"recipe='float16' makes no sense for target='edgetpu'; accepted: int8",
        ),
        ({"target": "micro", "recipe": "saved_model"}, r"recipe='saved_model' makes no sense"),
        ({"target": "mobile"}, r"target='mobile' feeds pixels 0..255 .* give include_preprocessing"),
        ({"recipe": "saved_model", "labels": NAMES}, r"labels and metadata are for TFLite files"),
        ({"labels": NAMES[:9]}, r"9 .*10"),
        (
            {"recipe": "int16x8", "tolerance": converters.Tolerance(min_sqnr_db=30)},
            r"keeps layers of an int8 model in float",
        ),
        ({"tolerance": converters.Tolerance()}, r"tolerance=Tolerance\(.*\) needs a limit"),
        ({"tolerance": converters.Tolerance(min_sqnr_db=float("nan"))}, r"finite numbers for limits"),
        ({"tolerance": converters.Tolerance(min_agreement=97)}, r"min_agreement=97 must be a share"),
        (
            {"target": "edgetpu", "tolerance": converters.Tolerance(min_sqnr_db=30)},
            r"target='edgetpu' computes in integers only",
        ),
        ({"labels": NAMES, "metadata": Metadata("x")}, r"labels and metadata were both given"),
        (
            {"recipe": "float32", "target": "mobile"},
            r"target='mobile' tells clients how to normalise images, and 'tiny' does not say",
        ),
        (
            {"recipe": "saved_model", "include_preprocessing": "tf"},
            r"include_preprocessing='tf': .* for RGB, .* 1 channels: give False",
        ),
        ({"representative_data": None}, r"representative_data=None, but recipe 'int8'"),
        ({"representative_data": noise(3, 9, 1)}, r"sample 0 has shape \(3, 9, 9, 1\); .*\(N, 8, 8, 1\)"),
    ],
)
def test_what_is_refused_before_anything_is_converted(trained, given, message):
    given = {"recipe": "int8", "representative_data": CALIBRATING, **given}
    with pytest.raises(ValueError, match=message):
        converters.convert(trained, **given)


def test_a_tolerance_is_for_one_output_and_for_what_it_says():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(image)
    several, feature_map = keras.Model(image, [x, x]), keras.Model(image, x)
    sqnr, agreement = converters.Tolerance(min_sqnr_db=30), converters.Tolerance(min_agreement=0.9)
    with pytest.raises(ValueError, match="tolerance is for models with one output"):
        converters.convert(several, "int8", representative_data=noise(2, 8), tolerance=sqnr)
    with pytest.raises(ValueError, match=r"min_agreement=0.9 is for models with classes"):
        converters.convert(feature_map, "int8", representative_data=noise(2, 8), tolerance=agreement)


def test_other_types_are_refused(trained):
    for argument in ("corrections", "rewrite"):
        with pytest.raises(TypeError, match=f"{argument}=5 is not accepted"):
            converters.convert(trained, "int8", representative_data=CALIBRATING, **{argument: 5})
    with pytest.raises(TypeError, match=r"tolerance=0.5 is not accepted: a converters.Tolerance is"):
        converters.convert(trained, "int8", representative_data=CALIBRATING, tolerance=0.5)
    with pytest.raises(TypeError, match=r"include_preprocessing=None is not accepted: True, False"):
        converters.convert(trained, "int8", representative_data=CALIBRATING, include_preprocessing=None)


@pytest.mark.parametrize(
    ("images", "include", "message"),
    [
        (
            8 * (CALIBRATING + 1) * 16,
            False,
            r"goes from 0 to 25[0-9], .* the variance it was trained with.*0..255",
        ),
        (CALIBRATING / 500, False, r"1/[0-9,]+ of the variance it was trained with.*wider range"),
        (CALIBRATING, "tf", r"goes from -1 to 1, but with include_preprocessing it has to be images 0..255"),
        ((CALIBRATING + 1) / 2, "tf", r"goes from 0 to 1, but with include_preprocessing"),
    ],
)
def test_data_of_another_range_is_refused(trained, images, include, message):
    with pytest.raises(ValueError, match=message):
        converters.convert(trained, "int8", representative_data=images, include_preprocessing=include)


def test_a_subclassed_model_is_told_what_to_do():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"is subclassed, so it has no graph of layers.*Functional"):
        converters.convert(Mine(), "int8", representative_data=CALIBRATING)


def test_a_layer_that_tflite_lacks_is_named_with_the_path_to_it():
    inner_image = keras.Input((8, 8, 1))
    inner = keras.Model(inner_image, Odd(name="odd_one")(inner_image), name="inner")
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, layers.Flatten()(inner(image)))
    with pytest.raises(converters.ConversionError, match=r"Erfinv.*\(in .*inner.*/odd_one") as caught:
        converters.convert(model, "int8", representative_data=CALIBRATING)
    assert re.match(r"recipe 'int8': ", str(caught.value))
