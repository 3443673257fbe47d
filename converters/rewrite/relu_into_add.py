"""ADD whose sum is read by RELU and others = a second ADD with the RELU in it.

TFLite fuses an activation into the operation before only where nothing else reads that; Xception's shortcuts
do. XNNPACK has no int8 RELU, so each one ends a partition. The converter would merge the two ADDs again:
hence after quantization.
"""

from __future__ import annotations

from converters.graph import Graph, Op, activation, options


def relu_into_add(graph: Graph) -> int:
    """Replace each RELU of a sum by a second sum.

    Args:
        graph: An int8 graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for relu in graph.of_kind("RELU"):
        add = graph.producer(relu.inputs[0])
        if add is None or add.kind != "ADD" or relu.output.dtype != "INT8":
            continue
        if add.options.fusedActivationFunction != activation("NONE"):
            continue
        fused = options("AddOptions", fusedActivationFunction=activation("RELU"))
        graph.insert(Op("ADD", list(add.inputs), relu.outputs, fused, add.version), relu)
        graph.ops.remove(relu)
        count += 1
    graph.remove_dead()
    return count
