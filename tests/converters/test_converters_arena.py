"""The arena against sums by hand and against where the runtime puts its tensors."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from test_converters_delegates import add, ints, new_graph, pool, tangled, unary

from converters.arena import arena, micro_arena, nbytes
from converters.graph import Tensor, constant, options


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras model here."""


def span(graph):
    """From the first byte to the last of all tensors, in the interpreter without delegates."""
    interpreter = Interpreter(
        model_content=graph.to_bytes(),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    ends = []
    names = {tensor.name for tensor in graph.tensors() if not tensor.is_constant}
    for detail in [row for row in interpreter.get_tensor_details() if row["name"] in names]:
        view = interpreter.tensor(detail["index"])()
        ends.append((view.__array_interface__["data"][0], view.nbytes))
    return max(start + size for start, size in ends) - min(start for start, _ in ends)


def test_a_residual_block_of_resnet50_in_int8():
    # At 56x56 and 256 channels a tensor has 802,816 bytes: one read and one written, 1.6 MB; ADD has a third.
    graph = new_graph((1, 56, 56, 256), dtype="INT8")
    image = graph.inputs[0]
    end = unary(graph, "RELU")
    assert arena(graph).peak_bytes == 2 * 56 * 56 * 256
    add(graph, "ADD", [image, end], image.shape)
    found = arena(graph)
    assert (found.peak_bytes, found.peak_op) == (3 * 56 * 56 * 256, "ADD ADD_1_0")
    assert [step.live_bytes for step in found.by_op] == [2 * 802_816, 3 * 802_816]


def test_values_that_are_read_later_stay():
    graph = new_graph((1, 4, 4, 16))
    image = graph.inputs[0]
    for _ in range(3):
        pool(graph, "MAX_POOL_2D", 2, 2) if graph.outputs[0].shape[1] > 1 else unary(graph, "ABS")
    add(graph, "ADD", [image, graph.outputs[0]], image.shape)
    sizes = [1024, 256, 64, 64, 1024]
    assert [step.live_bytes for step in arena(graph).by_op] == [
        sizes[0] + sizes[1],
        sizes[0] + sizes[1] + sizes[2],
        sizes[0] + sizes[2] + sizes[3],
        sizes[0] + sizes[3] + sizes[4],
    ]


def test_constants_and_results_that_nobody_reads():
    graph = new_graph((1, 1, 1, 16))
    image = graph.inputs[0]
    unread = unary(graph, "ABS")
    add(graph, "ADD", [image, constant("c", np.ones((1, 1, 1, 16), np.float32))], image.shape)
    assert unread not in graph.outputs
    assert [step.live_bytes for step in arena(graph).by_op] == [128, 128]


@pytest.mark.parametrize("seed", range(12))
def test_the_plan_is_the_runtime_s(seed):
    graph = tangled(seed, "MAXIMUM")  # The runtime lets an ADD write over an input that nobody reads later.
    for tensor in graph.tensors():
        tensor.shape = (1, 3, 5, 7)  # 420 bytes, no multiple of the alignment.
    found = arena(graph)
    assert found.planned_bytes == span(graph)
    assert found.peak_bytes <= found.planned_bytes


@pytest.mark.parametrize(
    "seed", [*range(10), 59, 89, 133]
)  # In the last three the tightest gap is not the last.
def test_tensors_of_many_sizes_are_planned_as_by_the_runtime(seed):
    rng = np.random.default_rng(seed)
    graph = new_graph((1, 1, 1, 100))
    made = list(graph.inputs)
    for _ in range(rng.integers(5, 25)):
        source = made[rng.integers(max(0, len(made) - 5), len(made))]
        size, had = int(rng.integers(1, 400)), source.shape[3]
        if size > had:
            amounts = constant("amounts", np.array([[0, 0], [0, 0], [0, 0], [0, size - had]], np.int32))
            made.append(add(graph, "PAD", [source, amounts], (1, 1, 1, size), options("PadOptions")))
        else:
            inputs = [source, ints(0, 0, 0, 0), ints(1, 1, 1, size)]
            made.append(add(graph, "SLICE", inputs, (1, 1, 1, size), options("SliceOptions")))
    graph.outputs = [tensor for tensor in made[1:] if not graph.consumers(tensor)]
    assert arena(graph).planned_bytes == span(graph)


def test_micro_controllers_write_over_the_input():
    graph = new_graph((1, 4, 4, 5), dtype="INT8")
    for _ in range(3):
        unary(graph, "RELU")
    assert micro_arena(graph).planned_bytes == 80 + 80
    # The image stays; two more of 80 bytes, each on a step of 64.
    assert arena(graph).planned_bytes == 128 + 128 + 80


def test_a_gap_that_fits_is_used():
    # 40, 10 and 30 KB live on; when the second is done its gap takes what fits.
    graph = new_graph((1, 1, 1, 64), dtype="INT8")
    image = graph.inputs[0]
    first = add(graph, "TILE", [image], (1, 1, 1, 40_000))
    second = add(graph, "TILE", [first], (1, 1, 1, 30_000))
    third = add(graph, "TILE", [second, first], (1, 1, 1, 20_000))
    graph.outputs = [third]
    assert micro_arena(graph).planned_bytes == 90_000
    fourth = add(graph, "TILE", [third], (1, 1, 1, 25_000))
    graph.outputs = [fourth]
    assert micro_arena(graph).planned_bytes == 90_000


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("FLOAT32", (2, 3), 24), ("INT4", (3, 3), 5), ("BOOL", (7,), 7), ("INT64", (), 8), ("STRING", (4,), 0)],
)
def test_bytes_of_a_tensor(dtype, shape, size):
    assert nbytes(Tensor("t", shape, dtype)) == size


def test_a_graph_without_operations():
    found = arena(new_graph((1, 10)))
    assert (found.peak_bytes, found.peak_op, found.planned_bytes, found.by_op) == (40, "", 40, ())
