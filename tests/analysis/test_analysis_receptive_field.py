"""The receptive field and the stride against what a changed pixel does."""

import numpy as np
import pytest
from keras import Input, Model, applications, layers

import keras_archs
from keras_archs.analysis import analyze

SIDE = 41


def conv(kernel=3, strides=1, **settings):
    return layers.Conv2D(1, kernel, strides, "same", kernel_initializer="ones", **settings)


def strided_then_dilated(x):
    return conv(3, dilation_rate=3)(conv(5, 2)(x))


def pooled(x):
    return conv()(layers.MaxPooling2D(3, 2, "same")(conv()(x)))


def averaged(x):
    return layers.AveragePooling2D(2)(conv(3)(layers.AveragePooling2D(3, 1, "same")(x)))


def oblong(x):
    return conv((7, 1))(conv((1, 5), (1, 2))(x))


def residual(x):
    x = conv()(x)
    y = conv()(conv(3, 2)(x))
    return conv()(layers.Add()([conv(1, 2)(x), y]))


def inception(x):
    branches = [conv(1)(x), conv(5)(x), conv()(layers.AveragePooling2D(3, 1, "same")(x))]
    return layers.Concatenate()(branches)


def separable(x):
    ones = {"depthwise_initializer": "ones", "padding": "same"}
    x = layers.SeparableConv2D(2, 3, pointwise_initializer="ones", **ones)(x)
    return layers.DepthwiseConv2D(3, 2, **ones)(layers.ZeroPadding2D(1)(x))


def blurred(x):
    return keras_archs.layers.BlurPooling2D(3, 2)(conv()(x))


def transposed(x):
    x = layers.Conv2DTranspose(1, 3, 2, "same", kernel_initializer="ones")(conv(3, 2)(x))
    return layers.Activation("relu")(layers.BatchNormalization()(x))


def enlarged(x):
    return layers.UpSampling2D(2, interpolation="bilinear")(conv(3, 2)(x))


NETS = [
    strided_then_dilated, pooled, averaged, oblong, residual,
    inception, separable, blurred, transposed, enlarged,
]  # fmt: skip


def seen(model):
    """Which pixels change each output: (SIDE * SIDE, height, width)."""
    images = np.zeros((SIDE * SIDE, SIDE, SIDE, 1), "float32")
    images.reshape(SIDE * SIDE, -1)[np.diag_indices(SIDE * SIDE)] = 1.0
    return (model.predict(images, batch_size=SIDE * SIDE, verbose=0) != 0).any(axis=-1)


def span(changed):
    """First and last pixel that changes an output, as ((top, left), (bottom, right))."""
    rows, columns = np.nonzero(changed.reshape(SIDE, SIDE))
    return np.array([rows.min(), columns.min()]), np.array([rows.max(), columns.max()])


@pytest.mark.parametrize("net", NETS)
def test_field_and_stride_are_those_of_changed_pixels(net):
    image = Input((SIDE, SIDE, 1))
    model = Model(image, net(image))
    analysis = analyze(model)
    outputs = seen(model)
    middle = np.array(outputs.shape[1:]) // 2
    # Of outputs next to each other, some see more than others where a map is enlarged.
    sizes, starts = [], []
    for step in range(4):
        y, x = middle + step
        first, last = span(outputs[:, y, x])
        sizes.append(last - first + 1)
        starts.append(first)
    assert tuple(np.max(sizes, axis=0)) == analysis.receptive_field
    assert tuple((starts[2] - starts[0]) / 2) == analysis.stride


# Araujo et al. (2019), doi:10.23915/distill.00021, table in google-research/receptive_field. Its resnet_v1_50
# is slim's, which strides in the last block of a stage, as Keras' version 2 does.
PUBLISHED = [
    ("vgg16", 212),
    ("inception_v3", 1311),
    ("inception_resnet_v2", 3039),
    ("resnet50v2", 483),
    ("resnet101v2", 1027),
]


@pytest.mark.parametrize(("name", "pixels"), PUBLISHED)
def test_published_fields(name, pixels):
    model = keras_archs.create_model(name, weights=None, include_top=False)
    analysis = analyze(model, 224)
    assert (analysis.receptive_field, analysis.stride) == ((pixels, pixels), (32, 32))


def test_published_field_of_a_foreign_model():
    assert analyze(applications.MobileNet(weights=None)).receptive_field == (315, 315)


def test_global_layers_see_the_whole_image_and_gates_are_left_out():
    image = Input((32, 32, 3))
    x = layers.Conv2D(8, 3, name="conv")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="scale")([x, gate])
    x = layers.Dense(2, name="dense")(layers.Flatten(name="flatten")(x))
    rows = {layer.name: layer for layer in analyze(Model(image, x)).layers}
    assert rows["conv"].receptive_field == rows["scale"].receptive_field == (3, 3)
    assert [rows[name].receptive_field for name in ("squeeze", "excite", "flatten", "dense")] == [None] * 4
    assert rows["scale"].stride == (1, 1)
    assert rows["dense"].stride is None


def test_a_layer_of_unknown_reach_is_an_error():
    image = Input((32, 32, 3))
    x = layers.Lambda(lambda x: x[:, ::2, ::2], name="subsample")(image)
    with pytest.raises(ValueError, match=r"'subsample' of class Lambda makes \(16, 16\) of \(32, 32\)"):
        analyze(Model(image, layers.Conv2D(4, 3)(x)))
