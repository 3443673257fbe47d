"""What a phase of training is made of: rates by stage, and the rate as a function of the step."""

import math

import keras
import pytest
from training_helpers import small_config

from keras_archs.registry import create_model
from keras_archs.training.cluster import Cluster
from keras_archs.training.networks import jit_for, learning_rates, stage_factors
from keras_archs.training.strategies import Plan

# How often the decay acts on a layer: 0 at the classifier, 1 in the last stage.
EXPONENTS = {
    ("resnet50", "keras", 224): {
        "conv1_conv": 5, "conv2_block1_1_conv": 4, "conv3_block4_3_bn": 3, "conv4_block6_3_conv": 2,
        "conv5_block3_3_bn": 1, "predictions": 0,
    },
    # PyTorch's strides are in the second convolution of a block.
    ("resnet50", "torch", 224): {"conv1_bn": 5, "conv3_block1_1_conv": 4, "conv3_block1_2_conv": 3},
    ("resnet50v2", None, 224): {"conv1_conv": 5, "conv2_block1_preact_bn": 4, "post_bn": 1},
    ("seresnet50", None, 224): {
        "conv1_conv": 5, "conv2_block1_se_reduce": 4, "conv3_block1_se_expand": 3,
        "conv5_block3_se_expand": 1,
    },
    ("seresnet50", None, 32): {"conv2_block1_se_reduce": 4, "conv5_block3_se_expand": 1},  # 1x1 maps
    ("ecaresnet50t", None, 224): {"conv1_1_conv": 5, "conv2_block1_eca": 4, "conv5_block3_eca": 1},
    ("resnetrs50", None, 160): {"conv1_3_conv": 5, "conv2_block1_se_reduce": 4, "conv5_block1_se_reduce": 1},
    ("resnext50_32x4d", None, 224): {"conv1_conv": 5, "conv4_block6_2_conv": 2},
    ("inception_v3", None, 299): {"conv1_conv": 5, "conv3_bn": 5, "conv5_conv": 4, "mixed2_b0_1_conv": 3},
    ("inception_v3", None, 75): {"conv1_conv": 5, "conv5_conv": 4, "mixed10_b3_2_bn": 1},
    ("xception", None, 299): {"block1_conv2": 5, "block3_0": 3, "block13_sepconv1": 2, "block14_sepconv2": 1},
    ("vgg16", None, 224): {"block1_conv1": 5, "block5_conv3": 1, "fc1": 0, "predictions": 0},
}  # fmt: skip


def exponents(model):
    """By layer."""
    factors = stage_factors(model, 0.5, model.trainable_variables)
    assert len(factors) == len(model.trainable_variables)
    return {path.split("/")[0]: -math.log2(factor) for path, factor in factors.items()}


@pytest.mark.parametrize(("name", "convention", "size"), EXPONENTS)
def test_rates_fall_by_stages_from_the_classifier_to_the_stem(name, convention, size):
    with keras.StatelessScope(initialize_variables=False):
        model = create_model(name, weights=None, convention=convention, input_shape=(size, size, 3))
        found = exponents(model)
    assert EXPONENTS[name, convention, size].items() <= found.items()
    assert set(found.values()) == set(range(6))
    # Along each way through the network they never rise, and never fall by two.
    reached = {}
    for layer in model.layers:
        before = min((reached[id(x)] for x in keras.tree.flatten(layer.input) if id(x) in reached), default=5)
        own = found.get(layer.name, before)
        assert own in (before, before - 1), layer.name
        reached[id(layer.output)] = own


def test_no_layer_decay_changes_no_rate():
    assert stage_factors(None, 1.0, [keras.Variable(1.0)]) == {}


def test_a_cosine_begins_behind_the_warm_up_or_at_0():
    values = {"run__epochs": 10, "schedule__warmup_epochs": 5, "optimizer__learning_rate": 1.0}
    behind, beneath = (
        learning_rates(small_config(schedule__begin=begin, **values), steps=2, batch_size=4)
        for begin in ("warmup", "start")
    )
    assert [float(behind(step)) for step in (5, 10, 15)] == pytest.approx([0.5, 1.0, 0.5])
    # The rise aims at the peak; then the cosine is halfway down.
    assert [float(beneath(step)) for step in (5, 10, 15)] == pytest.approx([0.5, 0.5, 0.146447], rel=1e-5)


@pytest.mark.parametrize("milestones", [[0.1], [1.0, 1.1]])
def test_milestones_that_are_no_steps_of_their_own_are_named(milestones):
    config = small_config(schedule__name="step", schedule__milestones=milestones)
    with pytest.raises(ValueError, match=r"^schedule.milestones=\[.*\] are the steps \[.*\] with 4 an epoch"):
        learning_rates(config, steps=4, batch_size=4)


def test_xla_is_kerass_choice_but_for_grouped_convolutions_on_a_cpu():
    image = keras.Input((8, 8, 4))
    grouped = keras.Model(image, keras.layers.Conv2D(4, 3, groups=2)(image))
    plain = keras.Model(image, keras.layers.DepthwiseConv2D(3)(image))
    alone = Cluster((), 0, "this machine alone")
    one, two, gpu = (Plan("", alone, devices, 8) for devices in (("CPU:0",), ("CPU:0", "CPU:1"), ("GPU:0",)))
    assert jit_for(grouped, one) is True
    assert {jit_for(plain, one), jit_for(grouped, two), jit_for(grouped, gpu)} == {"auto"}
