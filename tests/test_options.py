"""What timm's users know: feature maps, dilation, dropped paths, other classifiers, frozen layers."""

import keras
import numpy as np
import pytest

import keras_archs
from keras_archs.layers import LocalResponseNormalization, Preprocess, StochasticAdd
from keras_archs.weights import load_file

RNG = np.random.default_rng(0)
FAMILIES = {
    "resnet18": 64,
    "resnet50": 64,
    "resnet50v2": 64,
    "resnetv2_18": 64,
    "googlenet": 64,
    "googlenet_2014": 64,
    "inception_v2": 64,
    "inception_v3": 107,
    "inception_v4": 107,
    "inception_resnet_v1": 107,
    "inception_resnet_v2": 107,
    "xception": 96,
    "xception41p": 96,
    "vgg11": 64,
}


def images(size, count=1):
    return RNG.normal(size=(count, size, size, 3)).astype("float32")


@pytest.mark.parametrize("name", FAMILIES)
def test_features_have_the_strides_of_their_names(name):
    size = FAMILIES[name]
    shape = (size, size, 3)
    model = keras_archs.create_model(name, weights=None, features_only=True, input_shape=shape)
    assert model.output_names == ["stride_2", "stride_4", "stride_8", "stride_16", "stride_32"]
    sides = [output.shape[1] for output in model.outputs]
    # Valid padding takes a few pixels more than the division.
    for side, stride in zip(sides, (2, 4, 8, 16, 32), strict=True):
        assert size / stride - 5 <= side <= -(-size // stride)
    assert len(set(sides)) == 5
    whole = keras_archs.create_model(name, weights=None, include_top=False, input_shape=shape)
    whole.set_weights(model.get_weights())
    x = images(size)
    np.testing.assert_array_equal(model(x)[-1], whole(x))


def test_out_indices():
    model = keras_archs.ResNet18(features_only=True, out_indices=[-1, 1])
    assert model.output_names == ["stride_32", "stride_4"]
    assert [output.shape[-1] for output in model.outputs] == [512, 64]
    shallow = keras_archs.ResNet18(features_only=True, out_indices=(0,))
    assert shallow.count_params() < 20_000  # layers behind it are gone
    assert len(shallow.outputs) == 1
    assert keras_archs.ResNet20(features_only=True).output_names == ["stride_1", "stride_2", "stride_4"]


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("resnet18", 8),
        ("resnet18", 16),
        ("resnet50", 8),
        ("resnet50d", 16),
        ("resnet50v2", 8),
        ("resnet50v2", 16),
        ("resnetv2_18", 8),
        ("xception", 16),
        ("xception41", 8),
        ("xception41p", 16),
    ],
)
def test_output_stride(name, stride):
    arguments = {"weights": None, "include_top": False, "input_shape": (97, 97, 3)}
    dense = keras_archs.create_model(name, output_stride=stride, **arguments)
    sparse = keras_archs.create_model(name, **arguments)
    if name != "xception":  # its stem is not padded
        assert (dense.output_shape[1], sparse.output_shape[1]) == (96 // stride + 1, 4)
    assert dense.count_params() == sparse.count_params()
    if name != "resnet50d":  # its average pools have no dilated form
        # Atrous equals dense, then subsampled, as in slim's own test: exact for sizes of 32 k + 1.
        dense.set_weights(sparse.get_weights())
        x = images(97)
        step = 32 // stride
        np.testing.assert_allclose(dense(x)[:, ::step, ::step], sparse(x), rtol=1e-3, atol=1e-4)
    pyramid = keras_archs.create_model(name, weights=None, output_stride=stride, features_only=True)
    expected = {
        8: ["stride_2", "stride_4", "stride_8", "stride_8_dilation_2", "stride_8_dilation_4"],
        16: ["stride_2", "stride_4", "stride_8", "stride_16", "stride_16_dilation_2"],
    }
    assert pyramid.output_names == expected[stride]


@pytest.mark.parametrize(
    "name", ["resnet18", "resnetv2_18", "inception_resnet_v1", "xception", "xception41p"]
)
def test_dropped_paths_grow_linearly(name, tmp_path):
    size = 107
    arguments = {"include_top": False, "weights": None, "input_shape": (size, size, 3)}
    model = keras_archs.create_model(name, drop_path_rate=0.5, **arguments)
    rates = [layer.rate for layer in model.layers if isinstance(layer, StochasticAdd)]
    # The exit of the aligned Xceptions counts as a block, but has no shortcut.
    last = 0.5 * 11 / 12 if name == "xception41p" else 0.5
    np.testing.assert_allclose(rates, np.linspace(0, last, len(rates) + 1)[1:], rtol=1e-6)
    x = images(size, 2)
    assert not np.allclose(model(x, training=True), model(x, training=True))
    plain = keras_archs.create_model(name, **arguments)
    # The layers stand in the same order, so a file of the one fits the other.
    model.save_weights(tmp_path / "x.weights.h5")
    load_file(plain, tmp_path / "x.weights.h5")
    np.testing.assert_allclose(model(x), plain(x), rtol=1e-6)


def test_a_dropped_path_is_dropped_for_the_whole_image():
    model = keras_archs.ResNet18(drop_path_rate=0.9, include_top=False, input_shape=(32, 32, 3))
    add = model.get_layer("conv5_block2_add")
    x = np.ones((64, 2, 2, 3), "float32")
    out = np.asarray(add([0 * x, x], training=True))
    per_image = out.reshape(64, -1)
    assert set(np.unique(per_image.round(3))) == {0.0, 10.0}
    assert (per_image == per_image[:, :1]).all()


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("resnet18", ("conv2_block1_out", "conv2_block2_out")),
        ("resnet50v2", ("conv3_block1_out", "conv3_block2_out")),
        ("resnetv2_50x1_bit", ("conv3_block1_out", "conv3_block2_out")),
        ("wide_resnet16_4", ("conv2_block1_out", "conv2_block2_out")),
        ("xception", ("block6_add", "block7_add")),
        ("xception41", ("block6_add", "block7_add")),
        ("xception41p", ("block6_preact_act", "block6_add")),
        ("inception_resnet_v1", ("block35_1_ac", "block35_2_ac")),
    ],
)
def test_zero_init_residual_starts_as_the_identity(name, inner):
    arguments = {"weights": None, "include_top": False, "input_shape": (96, 96, 3)}
    x = images(96)
    for zero in (True, False):
        model = keras_archs.create_model(name, zero_init_residual=zero, **arguments)
        outputs = [model.get_layer(layer).output for layer in inner]
        before, after = (np.asarray(y) for y in keras.Model(model.input, outputs)(x))
        assert np.array_equal(before, after) == zero


def test_kernel_regularizer(tmp_path):
    model = keras_archs.Xception(
        weights=None, kernel_regularizer=keras.regularizers.L2(0.5), include_top=False
    )
    kernels = [w for w in model.trainable_weights if "kernel" in w.name]
    assert len(model.losses) == len(kernels) > 70
    expected = sum(0.5 * float(np.sum(np.square(kernel))) for kernel in kernels)
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-4)
    image = keras.Input((32, 32, 1))
    mine = keras.layers.Conv2D(3, 1, name="mine")(image)
    around = keras_archs.ResNet20(kernel_regularizer="l2", input_tensor=mine)
    assert around.get_layer("mine").kernel_regularizer is None
    small = keras_archs.ResNet20(kernel_regularizer="l2")
    small.save(tmp_path / "x.keras")
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    assert len(loaded.losses) == len(small.losses) == 20
    assert not keras_archs.ResNet20().losses


@pytest.mark.parametrize("name", ["resnet50", "xception", "resnet18"])
def test_preprocessing_in_the_graph(name, tmp_path):
    arguments = {"weights": None, "include_top": False, "input_shape": (96, 96, 3)}
    model = keras_archs.create_model(name, include_preprocessing=True, **arguments)
    plain = keras_archs.create_model(name, **arguments)
    plain.set_weights(model.get_weights())
    x = RNG.integers(0, 256, (2, 96, 96, 3)).astype("uint8")
    expected = plain(keras_archs.preprocess_input(x, plain))
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)
    # A model that normalizes by itself wants images as they are, also after saving.
    model.save(tmp_path / "x.keras")
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    np.testing.assert_array_equal(keras_archs.preprocess_input(x, loaded), x)
    assert keras_archs.preprocessing.preprocessing_mode(keras.models.clone_model(model)) == "raw"
    np.testing.assert_array_equal(loaded(x), model(x))


def test_the_preprocessing_follows_the_lineage():
    x = RNG.integers(0, 256, (1, 4, 4, 3)).astype("uint8")
    for convention, mode in (("keras", "caffe"), ("torch", "torch"), ("slim", "slim")):
        model = keras_archs.ResNet50(weights=None, convention=convention, include_top=False)
        np.testing.assert_array_equal(
            keras_archs.preprocess_input(x, model), keras_archs.preprocess_input(x, mode)
        )


@pytest.mark.parametrize(
    ("name", "extra", "size"),
    [
        ("googlenet", 6_379_984, 224),
        ("googlenet_2014", 6_379_728, 224),
        ("inception_v3", 3_326_696, 299),
        ("inception_v4", 3_359_464, 299),
    ],
)
def test_auxiliary_heads(name, extra, size):
    arguments = {"weights": None, "convention": None if name == "googlenet_2014" else "torch"}
    model = keras_archs.create_model(name, aux_heads=True, **arguments)
    plain = keras_archs.create_model(name, **arguments)
    trainable = [sum(int(np.prod(w.shape)) for w in m.trainable_weights) for m in (model, plain)]
    assert trainable[0] - trainable[1] == extra
    count = len(keras_archs.get_spec(name).auxiliary)
    assert model.output_shape == [(None, 1000)] * (1 + count)
    assert model.output_names[0] == "predictions"
    assert all(name.startswith("aux") for name in model.output_names[1:])
    for output in model(images(size)):
        np.testing.assert_allclose(np.sum(output), 1.0, rtol=1e-5)


def test_auxiliary_heads_of_all_others():
    for name in ("inception_v2", "inception_resnet_v1", "inception_resnet_v2"):
        model = keras_archs.create_model(name, weights=None, aux_heads=True, classes=7)
        assert set(model.output_shape) == {(None, 7)}


def test_drop_rate():
    for name, count in (("resnet18", 1), ("vgg11", 2)):
        model = keras_archs.create_model(name, weights=None, drop_rate=0.5, input_shape=(32, 32, 3))
        rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == [0.5] * count


def test_replace_classifier():
    model = keras_archs.ResNet20(include_preprocessing=True)
    new = keras_archs.replace_classifier(model, 3, None, drop_rate=0.2)
    assert new.output_shape == (None, 3)
    assert new.get_layer("conv4_block3_2_conv") is model.get_layer("conv4_block3_2_conv")
    assert new.get_layer("predictions").activation is keras.activations.linear
    assert keras_archs.preprocessing.preprocessing_mode(new) == "raw"
    assert model.output_shape == (None, 10)
    two = keras_archs.replace_classifier(keras_archs.GoogLeNet(aux_heads=True), 3)
    assert two.output_shape == (None, 3)
    theirs = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dropout(0.1, name="dropout"),
            keras.layers.Dense(5),
            keras.layers.Dense(2),
        ]
    )
    assert keras_archs.replace_classifier(theirs, 3, drop_rate=0.2).output_shape == (None, 3)
    again = keras_archs.replace_classifier(new, 4, drop_rate=0.3)
    assert [layer.rate for layer in again.layers if isinstance(layer, keras.layers.Dropout)] == [0.3]
    assert keras_archs.replace_classifier(new, 4).layers[-2].name == "avg_pool"
    with pytest.raises(ValueError, match="does not end in a dense layer"):
        keras_archs.replace_classifier(keras_archs.ResNet20(include_top=False), 3)
    with pytest.raises(ValueError, match="classes=0"):
        keras_archs.replace_classifier(model, 0)
    with pytest.raises(ValueError, match="Did you mean 'softmax'"):
        keras_archs.replace_classifier(model, 2, "softmx")
    with pytest.raises(ValueError, match="drop_rate=2"):
        keras_archs.replace_classifier(model, 2, drop_rate=2)


def test_freezing_holds_weights_and_statistics_still():
    model = keras_archs.freeze(keras_archs.ResNet20(classes=3))
    assert [weight.path.split("/")[-2] for weight in model.trainable_weights] == ["predictions"] * 2
    before = [np.array(w) for layer in model.layers[:-1] for w in layer.weights]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(images(32, 8), np.zeros(8), verbose=0)
    after = [np.array(w) for layer in model.layers[:-1] for w in layer.weights]
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))

    keras_archs.unfreeze(model, since="conv4_block1_1_conv")
    frozen = [layer for layer in model.layers if layer.weights and not layer.trainable]
    names = [layer.name for layer in frozen]
    assert "conv3_block3_2_conv" in names
    assert "conv4_block2_1_bn" in names  # batch normalization stays as it is
    assert "conv4_block2_1_conv" not in names
    keras_archs.unfreeze(model, batch_norm=True)
    assert all(layer.trainable for layer in model.layers)

    model.trainable = False
    keras_archs.unfreeze(model, since="predictions")
    assert len(model.trainable_weights) == 2
    two = keras_archs.freeze(keras_archs.GoogLeNet(aux_heads=True))
    names = {weight.path.split("/")[-2] for weight in two.trainable_weights}
    assert names == {"predictions"} | {
        f"aux{i}{end}" for i in (1, 2) for end in ("", "_fc1", "_conv_conv", "_conv_bn")
    }
    keras_archs.unfreeze(model, batch_norm=True)

    keras_archs.freeze(model, until="conv4_block1_1_conv")
    assert not model.get_layer("conv3_block3_2_conv").trainable
    assert model.get_layer("conv4_block1_1_conv").trainable
    for helper, argument in ((keras_archs.freeze, "until"), (keras_archs.unfreeze, "since")):
        with pytest.raises(
            ValueError, match=f"{argument}='conv4_block1_1_con' is not accepted. Did you mean"
        ):
            helper(model, "conv4_block1_1_con")


@pytest.mark.parametrize(
    "name",
    ["seresnet18", "ecaresnet50d", "resnetblur18", "resnetv2_50x1_bit", "googlenet_2014", "resnet50_gn"],
)
def test_custom_layers_are_saved_and_channels_first_builds(name, tmp_path):
    arguments = {"weights": None, "include_top": False}
    model = keras_archs.create_model(name, input_shape=(64, 64, 3), include_preprocessing=True, **arguments)
    model.save(tmp_path / "x.keras")
    x = RNG.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "x.keras")(x), model(x))
    keras.config.set_image_data_format("channels_first")
    try:
        first = keras_archs.create_model(name, input_shape=(3, 64, 64), **arguments)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert first.output_shape[2:] == model.output_shape[1:3]
    assert first.output_shape[1] == model.output_shape[3]
    assert first.count_params() == model.count_params()


def test_half_precision():
    """Images are normalized in float32, and squares in local response normalization don't overflow."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        preprocess = Preprocess((127.5,), (127.5,))
        exact = (np.float32(200.4) - 127.5) / 127.5
        out = preprocess(np.full((1, 1, 1, 1), 200.4, "float32"))
        assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
        np.testing.assert_allclose(np.asarray(out, "float32"), exact, rtol=2**-8)
    finally:
        keras.config.set_dtype_policy("float32")
    x = np.full((1, 1, 1, 5), 400, "float16")
    normalized = LocalResponseNormalization(dtype="float16")(x)
    single = LocalResponseNormalization()(x.astype("float32"))
    np.testing.assert_allclose(np.asarray(normalized, "float32"), single, rtol=1e-3)
