import numpy as np
import pytest
from small_graphs import Net, images, relative_difference, run, statistics

from converters.bias_absorption import absorb_biases, center_channels
from converters.graph import constant


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model is made here."""


def lift(graph, index, amount):
    """Add to a layer's bias."""
    bias = graph.ops[index].inputs[2]
    graph.ops[index].inputs[2] = constant(bias.name, bias.data + np.float32(amount))


def readers(net, x):
    yield net.layer(x, 5, 1)
    yield net.layer(x, 5, 3, pad="VALID")
    yield net.depthwise(x, 2, pad="VALID")
    yield net.layer(net.pool(x), 5, 1)
    yield net.layer(net.pool(x, "AVERAGE_POOL_2D"), 5, 2, pad="VALID")
    yield net.head(x)


@pytest.mark.parametrize("index", range(6))
def test_centering_is_exact_for_every_image(index):
    net = Net(index)
    middle = net.depthwise(net.input, 2)
    graph = net.done(list(readers(net, middle))[index])
    graph.remove_dead()
    lift(graph, 0, [3, -2, 0, 9, 0, 1])
    content, samples = graph.to_bytes(), images(graph)
    known = statistics(graph, samples)
    assert center_channels(graph, known) == 1
    assert relative_difference(graph, content, 5 * images(graph, seed=2)) < 1e-5
    for name, (low, high) in statistics(graph, samples).items():
        np.testing.assert_allclose(known[name], (low, high), rtol=1e-4, atol=1e-5 * np.abs(high).max())
    low, high = known[middle.name]
    np.testing.assert_allclose(low, -high, atol=1e-5)


@pytest.mark.parametrize(
    "reader",
    [
        lambda net, x: net.layer(x),
        lambda net, x: net.depthwise(x),
        lambda net, x: net.layer(net.pad(x), 5, 1),
        lambda net, x: net.layer(net.relu(x), 5, 1),
        lambda net, x: net.layer(net.pool(x, act="RELU"), 5, 1),
    ],
    ids=["padded conv", "padded depthwise", "pad", "relu", "relu in a pool"],
)
def test_centering_leaves_alone_what_sees_another_zero(reader):
    net = Net()
    graph = net.done(reader(net, net.depthwise(net.input)))
    content = graph.to_bytes()
    assert center_channels(graph, statistics(graph, images(graph))) == 0
    assert graph.to_bytes() == content


def test_a_layer_without_bias_gets_one():
    net = Net()
    graph = net.done(net.head(net.depthwise(net.input)))
    graph.ops[0].inputs[2] = constant("zero", np.zeros(3, np.float32))
    graph.ops[-1].inputs[2] = None
    content = graph.to_bytes()
    assert center_channels(graph, statistics(graph, images(graph))) == 1
    assert relative_difference(graph, content, images(graph)) < 1e-5


def test_only_relus_that_are_never_near_zero_are_lowered():
    net = Net()
    middle = net.layer(net.input, 4, pad="VALID")
    graph = net.done(net.layer(middle, 5, 1))
    assert absorb_biases(graph, statistics(graph, images(graph))) == 0
    lift(graph, 0, [100, 0, 0, 0])
    content, samples = graph.to_bytes(), images(graph)
    known = statistics(graph, samples)
    low, high = known[middle.name]
    assert absorb_biases(graph, known) == 1
    assert relative_difference(graph, content, samples) < 1e-5
    after = statistics(graph, samples)[middle.name]
    np.testing.assert_allclose(after[0][0], 0.1 * (high - low)[0], rtol=1e-4)
    np.testing.assert_allclose((after[0][1:], after[1][1:]), (low[1:], high[1:]))


def test_linear_layers_are_not_for_absorption_nor_relus_for_centering():
    net = Net()
    graph = net.done(net.layer(net.depthwise(net.input, act="NONE", pad="VALID"), 5, 1))
    lift(graph, 0, 100)
    assert absorb_biases(graph, statistics(graph, images(graph))) == 0
    net = Net()
    graph = net.done(net.layer(net.depthwise(net.input, act="RELU", pad="VALID"), 5, 1))
    lift(graph, 0, 100)
    assert center_channels(graph, statistics(graph, images(graph))) == 0


def test_lacking_statistics_are_named_and_nothing_changes():
    net = Net()
    middle = net.depthwise(net.input)
    graph = net.done(net.layer(middle, 5, 1))
    before = run(graph.to_bytes(), images(graph))[0]
    with pytest.raises(ValueError, match=f"statistics lacks tensor '{middle.name}'"):
        center_channels(graph, {})
    np.testing.assert_array_equal(run(graph.to_bytes(), images(graph))[0], before)
