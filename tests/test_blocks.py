"""The lecture's equations, each tested by the property that is the idea (style of He, Szegedy, Chollet)."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_archs
from keras_archs import blocks
from keras_archs.blocks import Fork, Pool, Unit
from keras_archs.conventions import KERAS_INCEPTION, KERAS_RESNET, KERAS_XCEPTION, TORCH_RESNET
from keras_archs.layers import ChannelPad, ScaledAdd

X = np.random.default_rng(0).normal(size=(2, 8, 8, 6)).astype("float32")


def build(function):
    inputs = keras.Input(X.shape[1:])
    return keras.Model(inputs, function(inputs))


def run(model, x=X):
    return keras.ops.convert_to_numpy(model(x, training=False))


def shortcut(kind, filters, stride):
    return lambda t: kind(t, filters, stride, TORCH_RESNET, "block")


def zero(x):
    """F = 0."""
    return layers.Rescaling(0.0)(x)


def test_residual_with_zero_f_and_identity_is_the_input():
    model = build(
        lambda x: blocks.residual(x, zero, shortcut(blocks.identity, 6, 1), TORCH_RESNET, "block_add")
    )
    np.testing.assert_array_equal(run(model), X)
    assert model.count_params() == 0


@pytest.mark.parametrize("convention", [KERAS_RESNET, KERAS_XCEPTION])
def test_residual_is_the_sum_in_the_order_of_the_convention(convention):
    double, triple = layers.Rescaling(2.0), layers.Rescaling(3.0)
    model = build(lambda x: blocks.residual(x, double, triple, convention, "block_add"))
    np.testing.assert_allclose(run(model), 5 * X, rtol=1e-6)
    first = model.get_layer("block_add").input[0]
    assert (first is triple.output) == convention.shortcut_first


def test_projection_changes_channels_and_stride_and_nothing_else():
    model = build(shortcut(blocks.projection, 10, 2))
    kernel = model.get_layer("block_0_conv").get_weights()[0]
    expected = X[:, ::2, ::2] @ kernel[0, 0] / np.sqrt(1 + TORCH_RESNET.epsilon)
    np.testing.assert_allclose(run(model), expected, rtol=1e-4, atol=1e-5)
    assert model.count_params() == 6 * 10 + 4 * 10


def test_zero_pad_keeps_every_second_pixel_and_adds_zero_channels():
    model = build(shortcut(blocks.zero_pad, 10, 2))
    y = run(model)
    np.testing.assert_array_equal(y[..., 2:8], X[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., [0, 1, 8, 9]], 0)
    assert model.count_params() == 0


def test_the_odd_one_of_the_new_channels_comes_last():
    y = run(build(lambda x: ChannelPad(9)(x)))
    np.testing.assert_array_equal(y[..., 1:7], X)


def test_inception_is_its_branches_side_by_side():
    branches = (
        (Unit(3, 1),),
        (Unit(4, 1), Unit(5, (1, 3))),
        (Pool(layers.AveragePooling2D), Unit(2, 1)),
        (Unit(4, 1), Fork(((Unit(1),), (Unit(2),)))),
    )
    model = build(lambda x: blocks.inception(x, branches, KERAS_INCEPTION, "mixed"))
    y = run(model)
    ends = ["mixed_b0_1_relu", "mixed_b1_2_relu", "mixed_b2_2_relu", "mixed_b3_2"]
    start = 0
    for end, width in zip(ends, [3, 5, 2, 3], strict=True):
        branch = keras.Model(model.input, model.get_layer(end).output)
        np.testing.assert_allclose(y[..., start : start + width], run(branch), rtol=1e-6)
        start += width
    assert start == y.shape[-1]


def test_separable_is_a_pointwise_convolution_of_a_depthwise_one():
    model = build(lambda x: blocks.separable(x, 10, KERAS_XCEPTION, "sep"))
    depthwise, pointwise = model.get_layer("sep").get_weights()
    inputs = keras.Input(X.shape[1:])
    where = layers.DepthwiseConv2D(3, padding="same", use_bias=False)
    what = layers.Conv2D(10, 1, use_bias=False)
    two = keras.Model(inputs, what(where(inputs)))
    where.set_weights([depthwise])
    what.set_weights([pointwise])
    separable = keras.Model(model.input, model.get_layer("sep").output)
    np.testing.assert_allclose(run(separable), run(two), rtol=1e-5, atol=1e-6)
    assert separable.count_params() == 3 * 3 * 6 + 6 * 10


@pytest.mark.parametrize("size", [8, 9])
def test_explicit_padding_is_symmetric_at_even_and_odd_sizes(size):
    """A stride-2 "same" convolution pads an even image on one side only; see tf-slim's conv2d_same."""
    inputs = keras.Input((size, size, 1))
    model = keras.Model(inputs, blocks.conv(inputs, Unit(1, 3, 2, "explicit", norm=False), TORCH_RESNET, "c"))
    model.set_weights([np.ones((3, 3, 1, 1)), np.zeros(1)])
    y = run(model, np.ones((1, size, size, 1), "float32"))
    assert y[0, 0, 0, 0] == 4
    assert y[0, -1, -1, 0] == (9 if size == 8 else 4)


@pytest.mark.parametrize("kernel", [(1, 3), (5, 1)])
def test_explicit_padding_keeps_the_size_for_oblong_kernels(kernel):
    unit = Unit(4, kernel, 1, "explicit", norm=False)
    assert build(lambda x: blocks.conv(x, unit, TORCH_RESNET, "c")).output_shape == (None, 8, 8, 4)


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        (Unit(4, 3, 2, "explicit"), ["u_pad", "u_conv", "u_bn", "u_relu"]),
        (Unit(4, 1, relu=False), ["u_conv", "u_bn"]),
        (Unit(4, norm=False, relu=False), ["u_conv"]),
    ],
)
def test_a_unit_names_its_layers(unit, names):
    model = build(lambda x: blocks.apply(x, unit, TORCH_RESNET, "u"))
    assert [layer.name for layer in model.layers[1:]] == names
    assert model.get_layer("u_conv").use_bias == (not unit.norm)


def test_normalization_of_the_torch_lineage_has_the_defaults_of_pytorch():
    """torch.nn.BatchNorm2d(eps=1e-5, momentum=0.1), where momentum is the share of the new statistics."""
    for model in (keras_archs.ResNet18(), keras_archs.ResNet20()):
        norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
        assert {(x.epsilon, x.momentum, x.scale, x.center) for x in norms} == {(1e-5, 0.9, True, True)}


def test_plain_networks_are_the_residual_ones_without_shortcuts():
    residual = keras_archs.ResNet20()
    plain = keras_archs.Plain20()
    kept = [x.name for x in residual.layers[1:] if not x.name.endswith(("_add", "_0_pool", "_0_pad"))]
    assert [layer.name for layer in plain.layers[1:]] == kept
    assert plain.count_params() == residual.count_params()


def test_only_blocks_that_change_the_shape_own_a_projection():
    def projected(model):
        return [x.name for x in model.layers if x.name.endswith("_0_conv")]

    assert projected(keras_archs.ResNet18()) == [f"conv{i}_block1_0_conv" for i in (3, 4, 5)]
    assert projected(keras_archs.ResNet20()) == []
    stages = [f"conv{i}_block1_0_conv" for i in (2, 3, 4, 5)]
    assert projected(keras_archs.ResNet50(weights=None)) == stages
    assert projected(keras_archs.ResNet50V2(weights=None)) == stages


@pytest.mark.parametrize("layer", [ChannelPad(10, name="pad"), ScaledAdd(0.3, name="scaled")])
def test_layers_survive_saving(layer, tmp_path):
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, layer(inputs if isinstance(layer, ChannelPad) else [inputs, inputs]))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(run(loaded), run(model))
    assert model.output_shape == tuple(model.layers[-1].output.shape)


def test_scaled_add():
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, ScaledAdd(0.25)([inputs, layers.Rescaling(2.0)(inputs)]))
    np.testing.assert_allclose(run(model), 1.5 * X, rtol=1e-6)


def test_channel_pad_refuses_to_narrow():
    with pytest.raises(ValueError, match="filters=3 must be at least the 6 channels"):
        build(lambda x: ChannelPad(3)(x))
    with pytest.raises(ValueError, match="at least the None channels"):
        ChannelPad(3)(keras.Input((8, 8, None)))
