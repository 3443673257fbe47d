"""Blocks and stages, found in the graph."""

import pytest
from keras import Input, Model, applications, layers

import keras_archs
from keras_archs.analysis import analyze
from keras_archs.analysis.structure import stages


def stage_names(model, size=None):
    return [stage.name for stage in analyze(model, size).stages]


def test_resnet50_has_the_stages_of_the_paper():
    analysis = analyze(keras_archs.ResNet50(weights=None))
    assert [(s.name, s.sums, s.output_shape, s.stride) for s in analysis.stages] == [
        ("conv1", 0, (112, 112, 64), (2, 2)),
        ("conv2_block1 - conv2_block3", 3, (56, 56, 256), (4, 4)),
        ("conv3_block1 - conv3_block4", 4, (28, 28, 512), (8, 8)),
        ("conv4_block1 - conv4_block6", 6, (14, 14, 1024), (16, 16)),
        ("conv5_block1 - conv5_block3", 3, (7, 7, 2048), (32, 32)),
        ("predictions", 0, (1000,), None),
    ]
    # The projection of the stage's first block is in it.
    block = 3 * (64 * 256 + 9 * 64 * 64 + 256 * 64) - 256 * 64 + 64 * 64 + 64 * 256
    assert analysis.stages[1].macs == 56 * 56 * block


def test_inception_and_separable_stages():
    inception = analyze(keras_archs.InceptionV3(weights=None)).stages
    assert [stage.concatenations for stage in inception] == [0, 0, 3, 5, 1 + 3 + 3, 0]
    assert inception[3].name == "mixed3 - mixed7"
    xception = analyze(keras_archs.Xception(weights=None)).stages
    assert [stage.separable for stage in xception] == [0, 2, 2, 26, 4, 0]
    assert xception[3].name == "block4 - block12"
    assert sum(stage.sums for stage in xception) == 12


def test_names_that_keras_makes_up_are_no_names():
    # In keras.applications the sums of Xception are add, add_1, ..., the layers of Inception conv2d_1, ...
    assert "block4 - block12" in stage_names(applications.Xception(weights=None))
    assert "mixed3 - mixed7" in stage_names(applications.InceptionV3(weights=None))


def block(x, **names):
    y = layers.Conv2D(4, 3, padding="same", name=names.get("first"))(x)
    y = layers.Conv2D(4, 3, padding="same", name=names.get("second"))(y)
    return layers.Add(name=names.get("join"))([x, y])


def element_names(model):
    return [element.name for chain in stages(analyze(model).layers) for element in chain]


def test_a_block_has_the_name_that_its_layers_share():
    image = Input((16, 16, 4))
    named = block(image, first="block1_conv1", second="block1_conv2", join="block1_sum")
    assert element_names(Model(image, named)) == ["block1"]
    sum_named = block(image, first="block1_conv1", second="block2_conv1", join="sum")
    assert element_names(Model(image, sum_named)) == ["sum"]
    assert element_names(Model(image, block(image))) == ["add"]
    # The name of a nested model says nothing about its blocks.
    inner = Model(image, block(image, first="one", second="two", join="sum"), name="inner")
    outer = Input((16, 16, 4))
    assert element_names(Model(outer, inner(outer))) == ["inner/sum"]


def test_padding_at_the_end_of_a_branch():
    image = Input((16, 16, 4))
    short = layers.ZeroPadding2D(1, name="pad")(layers.Conv2D(4, 3, name="conv")(image))
    model = Model(image, layers.Add(name="sum")([short, image]))
    (element,) = (element for chain in stages(analyze(model).layers) for element in chain)
    assert [layer.name for layer in element.branches[0][0].layers] == ["conv", "pad"]
    assert element.branches[1] == ()


def test_densenet():
    stages_ = analyze(applications.DenseNet121(weights=None)).stages
    assert [stage.concatenations for stage in stages_] == [0, 6, 12, 24, 16, 0]


def unet():
    x = image = Input((32, 32, 3))
    skips = []
    for k, width in enumerate((4, 8)):
        x = layers.Conv2D(width, 3, padding="same", name=f"down{k}")(x)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 3, padding="same", name="bottom")(x)
    for k, width in reversed(list(enumerate((4, 8)))):
        x = layers.Conv2DTranspose(width, 2, 2, name=f"up{k}")(x)
        x = layers.Concatenate(name=f"join{k}")([skips[k], x])
        x = layers.Conv2D(width, 3, padding="same", name=f"out{k}")(x)
    return Model(image, x, name="unet")


def test_a_unet_goes_down_and_up():
    analysis = analyze(unet())
    names = ["down0", "down1", "bottom", "up1 - out1", "up0 - out0"]
    assert [stage.name for stage in analysis.stages] == names
    assert [stage.stride for stage in analysis.stages] == [(1, 1), (2, 2), (4, 4), (2, 2), (1, 1)]
    assert [stage.receptive_field[0] for stage in analysis.stages] == [3, 8, 18, 22, 24]


def tangled():
    image = Input((32, 32, 3))
    a = layers.Conv2D(4, 3, 2, "same", name="a")(image)
    left, right = (layers.Conv2D(4, 3, 2, "same", name=name)(a) for name in ("left", "right"))
    sums = layers.Add(name="sums")([left, right])
    pair = layers.Concatenate(name="pair")([left, layers.Conv2D(4, 1, name="inner")(right)])
    ends = [layers.Conv2D(4, 1, 2, name=f"end{k}")(x) for k, x in enumerate((sums, pair))]
    return Model(image, layers.Conv2D(2, 1, name="last")(layers.Add(name="both")(ends)), name="tangled")


def test_branches_that_share_layers_are_one_element():
    analysis = analyze(tangled())
    elements = [element for chain in stages(analysis.layers) for element in chain]
    # It visits a stride inside, so it is in two.
    assert [element.tangled for element in elements] == [False, True, True, False]
    assert [stage.stride for stage in analysis.stages] == [(2, 2), (4, 4), (8, 8)]
    assert analysis.macs == sum(stage.macs for stage in analysis.stages)


def inception_resnet():
    return keras_archs.InceptionResNetV2(weights=None)


@pytest.mark.parametrize("build", [unet, tangled, inception_resnet])
def test_every_layer_is_in_one_element(build):
    rows = analyze(build()).layers
    inside = [layer.name for chain in stages(rows) for element in chain for layer in element.layers]
    assert sorted(inside) == sorted(layer.name for layer in rows[1:])


def test_x_times_sigmoid_is_an_activation():
    image = Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.Multiply(name="swish")([x, layers.Activation("sigmoid")(x)])
    (element,) = [element for chain in stages(analyze(Model(image, x)).layers) for element in chain]
    assert element.name == "conv"
    assert not element.branches


def test_operators_are_joins():
    image = Input((16, 16, 4))
    x = image + layers.Conv2D(4, 3, padding="same")(image)
    assert [layer.kind for layer in analyze(Model(image, x)).layers] == ["input", "conv", "sum"]
