"""Reading and writing graphs."""

import copy

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from graph_builder import Build, empty, random_graph, run

from converters.errors import ConversionError
from converters.graph import Graph, Op, Tensor, constant, options


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras here."""


def small():
    build = Build((1, 6, 6, 3))
    return build, build.finish(build.conv(build.conv(build.image, 5, act="RELU"), 4, (1, 1)))


def test_constants_lie_at_multiples_of_16_bytes():
    content = random_graph(3)
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength()) if model.Buffers(i).DataLength()]
    assert len(buffers) > 3
    whole = np.frombuffer(content, np.uint8)
    for buffer in buffers:
        start = buffer.DataAsNumpy().__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        assert start % 16 == 0


def test_the_model_runs_as_before_when_it_was_read_and_written():
    _, content = small()
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)
    [[before]], [[after]] = run(content, image), run(Graph(content).to_bytes(), image)
    np.testing.assert_array_equal(before, after)


def outside(content):
    """The model with its constants behind the flatbuffer, where TensorFlow puts what is larger than 2 GB."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    moved = [buffer for buffer in model.buffers if buffer.data is not None]
    constants = [bytes(buffer.data) for buffer in moved]

    def packed(start):
        for buffer, data in zip(moved, constants, strict=True):
            buffer.data, buffer.offset, buffer.size = None, start, len(data)
            start += -(-len(data) // 16) * 16
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    start = -(-len(packed(16)) // 16) * 16
    return packed(start).ljust(start, b"\0") + b"".join(
        d.ljust(-(-len(d) // 16) * 16, b"\0") for d in constants
    )


def test_constants_behind_the_flatbuffer_are_read():
    _, content = small()
    moved = outside(content)
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(run(moved, image), run(content, image))
    assert Graph(moved).to_bytes() == Graph(content).to_bytes()


def test_a_model_that_no_file_can_hold_is_told(monkeypatch):
    build, _ = small()
    monkeypatch.setattr(flatbuffers.Builder, "MAX_BUFFER_SIZE", 1 << 20)  # 2 GB take a minute
    build.graph.ops[0].inputs[1].data = np.zeros((5, 3, 3, 20_000), np.float32)
    with pytest.raises(ConversionError, match=r"constants of the model take 0\.0 GB, and a TFLite file"):
        build.graph.to_bytes()


def test_a_shared_constant_is_stored_once():
    build = Build((1, 6, 6, 3))
    weights = np.ones((4, 1, 1, 3), np.float32)
    first, second = build.conv(build.image, 4, (1, 1)), build.conv(build.image, 4, (1, 1))
    for op in build.graph.ops:
        op.inputs[1] = constant(f"{op.output.name}/same", weights)
        op.inputs[1].data = weights
    model = schema.Model.GetRootAs(build.finish(first, second), 0)
    sizes = [model.Buffers(i).DataLength() for i in range(model.BuffersLength())]
    assert sizes.count(weights.nbytes) == 1


def test_what_loops_is_named():
    build = Build((1, 4, 4, 2))
    build.finish(build.pool("MAX", build.image))
    state = Tensor("net/lstm/while", (1,), "FLOAT32")
    build.graph.ops.append(Op("WHILE", [build.image], [state], options("WhileOptions")))
    raw = schema.ModelT.InitFromObj(schema.Model.GetRootAs(build.graph.to_bytes(), 0))
    raw.subgraphs = [*raw.subgraphs, copy.copy(raw.subgraphs[0])]
    builder = flatbuffers.Builder(1024)
    builder.Finish(raw.Pack(builder), b"TFL3")
    with pytest.raises(ConversionError, match=r"2 subgraphs, for loops .*: WHILE 'net/lstm/while'; "):
        Graph(bytes(builder.Output()))


def test_neighbours():
    _, content = small()
    graph = Graph(content)
    first, second = graph.ops
    assert graph.producer(first.output) is first
    assert graph.producer(graph.inputs[0]) is None
    assert graph.only_consumer(first.output) is second
    assert graph.only_consumer(second.output) is None
    graph.outputs.append(first.output)
    assert graph.only_consumer(first.output) is None


def test_dead_operations_go():
    _, content = small()
    graph = Graph(content)
    graph.outputs = [graph.ops[0].output]
    graph.remove_dead()
    assert len(graph.ops) == 1


def test_metadata_is_kept_and_replaced():
    graph = empty()
    graph.outputs = graph.inputs = [Tensor("x", (1,), "FLOAT32")]
    graph.set_metadata("a", b"old")
    graph.set_metadata("b", b"other")
    graph.set_metadata("a", b"new")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(Graph(graph.to_bytes()).to_bytes(), 0))
    found = {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert found == {"a": b"new", "b": b"other"}
