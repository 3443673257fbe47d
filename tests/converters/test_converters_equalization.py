import numpy as np
import pytest
from small_graphs import Net, images, quantize, relative_difference, run, sqnr, statistics

from converters.equalization import equalize, find_pairs
from converters.graph import constant


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model is made here."""


def ranges_of(graph, name):
    low, high = statistics(graph, images(graph))[name]
    return np.maximum(np.abs(low), np.abs(high))


def random_net(seed):
    """A chain of what may stand between layers, and of what may not."""
    net = Net(seed)
    x = net.layer(net.input)
    steps = (
        lambda x: net.layer(x, 6, act=str(net.random.choice(["NONE", "RELU", "RELU6"]))),
        lambda x: net.depthwise(x, int(net.random.integers(1, 3)), act="RELU"),
        net.depthwise,
        net.pool,
        lambda x: net.pool(x, "AVERAGE_POOL_2D", "RELU"),
        net.relu,
        net.pad,
        lambda x: net.pad(x, 0.0),
        lambda x: net.pad(x, 1.5),
        lambda x: net.add(x, net.relu(x)),
        lambda x: net.concat(x, net.layer(x, 2)),
    )
    for step in net.random.choice(len(steps), 7):
        x = steps[step](x)
    return net.done(net.head(net.layer(x, 4)))


@pytest.mark.parametrize("seed", range(30))
def test_the_float_function_stays(seed):
    graph = random_net(seed)
    content, samples = graph.to_bytes(), images(graph)
    known = statistics(graph, samples)
    assert equalize(graph, known) >= 1  # the last layer and the head, at least
    assert relative_difference(graph, content, images(graph, seed=2)) < 1e-5
    for name, (low, high) in statistics(graph, samples).items():
        np.testing.assert_allclose(known[name], (low, high), rtol=1e-4, atol=1e-5 * np.abs(high).max())


def test_a_depthwise_reader_gets_channels_of_equal_range():
    net = Net()
    middle = net.layer(net.input, 6)
    graph = net.done(net.depthwise(middle, 2))
    largest = ranges_of(graph, middle.name).max()
    assert equalize(graph, statistics(graph, images(graph))) == 1
    np.testing.assert_allclose(ranges_of(graph, middle.name), largest, rtol=1e-5)


def test_a_dense_reader_shares_the_burden_between_activations_and_columns():
    net = Net()
    middle = net.layer(net.input, 6)
    graph = net.done(net.layer(middle, 5, 1))
    before = ranges_of(graph, middle.name)

    def columns():
        weights = np.abs(graph.ops[1].constant(1))
        return (weights / weights.max((1, 2, 3), keepdims=True)).max((0, 1, 2))

    old = columns()
    equalize(graph, statistics(graph, images(graph)))
    scale = np.sqrt(before / old)
    np.testing.assert_allclose(
        ranges_of(graph, middle.name), before.max() * (before / scale) / (before / scale).max(), rtol=1e-4
    )


def test_equal_channels_are_left_alone():
    net = Net()
    graph = net.done(net.depthwise(net.layer(net.input, 6)))
    known = statistics(graph, images(graph))
    assert equalize(graph, known) == 1
    content = graph.to_bytes()
    assert equalize(graph, known) == 0
    assert graph.to_bytes() == content


def test_a_dead_channel_is_not_blown_up():
    net = Net()
    middle = net.layer(net.input, 4)
    graph = net.done(net.depthwise(middle))
    known = statistics(graph, images(graph))
    known[middle.name] = tuple(values * np.array([0, 1, 1, 1]) for values in known[middle.name])
    before = np.abs(graph.ops[0].constant(1)).max((1, 2, 3))
    equalize(graph, known)
    assert 1 < (np.abs(graph.ops[0].constant(1)).max((1, 2, 3)) / before)[0] <= 1024 * 1.01


@pytest.mark.parametrize(
    "breaks",
    [
        lambda net, x: net.pad(x, 1.5),
        lambda net, x: net.add(x, x),
        lambda net, x: net.add(x, net.constant(1, 1, 1, x.shape[-1])),
        lambda net, x: net.concat(x, x),
        lambda net, x: net.pool(x, act="RELU6"),
    ],
    ids=["pad of a number", "add", "add of a constant", "concat", "relu6 in a pool"],
)
def test_these_end_a_chain(breaks):
    net = Net()
    graph = net.done(net.layer(breaks(net, net.layer(net.input))))
    assert list(find_pairs(graph)) == []


def test_other_activations_and_other_readers_end_a_chain():
    net = Net()
    assert list(find_pairs(net.done(net.layer(net.layer(net.input, act="RELU6"))))) == []
    net = Net()
    middle = net.layer(net.input)
    assert list(find_pairs(net.done(net.layer(middle), net.layer(middle)))) == []
    net = Net()
    middle = net.layer(net.input)
    assert list(find_pairs(net.done(net.layer(middle), middle))) == []


def test_shared_weights_and_grouped_readers_are_left_alone():
    net = Net(shape=(1, 6, 6, 4))
    weights = net.constant(4, 3, 3, 4)
    first = net.layer(net.input, weights=weights)
    assert list(find_pairs(net.done(net.layer(first, weights=weights)))) == []
    net = Net()
    grouped = net.layer(net.layer(net.input, 4), weights=net.constant(4, 3, 3, 2))
    assert list(find_pairs(net.done(grouped))) == []


def test_a_shared_bias_stays_for_the_others():
    net = Net()
    first, other = net.layer(net.input), net.layer(net.input)
    bias = net.constant(4)
    for op in net.graph.ops:
        op.inputs[2] = bias
    graph = net.done(net.depthwise(first), other)
    content = graph.to_bytes()
    equalize(graph, statistics(graph, images(graph)))
    assert relative_difference(graph, content, images(graph)) < 1e-5
    np.testing.assert_array_equal(run(content, images(graph))[1], run(graph.to_bytes(), images(graph))[1])
    assert len({tensor.name for tensor in graph.tensors()}) == len(graph.tensors())


def test_a_zero_bias_stays_shared():
    net = Net()
    first = net.layer(net.input)
    zero = constant("zero", np.zeros(4, np.float32))
    second = net.depthwise(first)
    for op in net.graph.ops:
        op.inputs[2] = zero
    graph = net.done(second)
    assert equalize(graph, statistics(graph, images(graph))) == 1
    assert all(op.inputs[2] is zero for op in graph.ops)


def test_planted_outliers_cost_nothing_after_it():
    net = Net(3, (1, 8, 8, 3))
    x = net.layer(net.depthwise(net.layer(net.input, 16), act="RELU"), 16, 1)
    graph = net.done(net.head(net.layer(x, 16)))
    for pair in find_pairs(graph):
        factor = np.where(np.arange(16) % 7, 1, 32).astype(np.float32)
        first, second = pair.first, pair.second
        shape = (1, 1, 1, -1) if first.kind == "DEPTHWISE_CONV_2D" else (-1, 1, 1, 1)
        first.inputs[1] = constant(first.inputs[1].name, first.constant(1) * factor.reshape(shape))
        first.inputs[2] = constant(first.inputs[2].name, first.constant(2) * factor)
        second.inputs[1] = constant(second.inputs[1].name, second.constant(1) / factor)
    samples = images(graph, 60)
    before = sqnr(graph, quantize(graph, samples), samples)
    assert equalize(graph, statistics(graph, samples)) == 4
    assert sqnr(graph, quantize(graph, samples), samples) > before + 10


def test_lacking_and_misshapen_statistics_are_named_and_nothing_changes():
    net = Net()
    middle = net.layer(net.input)
    last = net.depthwise(middle)
    graph = net.done(net.layer(last))
    content, known = graph.to_bytes(), statistics(graph, images(graph))
    with pytest.raises(ValueError, match=f"statistics lacks tensor '{last.name}'"):
        equalize(graph, {middle.name: known[middle.name]})
    with pytest.raises(ValueError, match=r"has shapes \[\(3,\), \(3,\)\]; \(4,\) is accepted"):
        equalize(graph, known | {last.name: (np.zeros(3), np.ones(3))})
    assert graph.to_bytes() == content
