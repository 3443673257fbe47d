"""int8 RELU = QUANTIZE to a scale whose least value is 0.

XNNPACK has no int8 RELU. Where the output's zero point is -128, the conversion to its scale
saturates negative numbers at 0 by itself. RELU6 likewise, where the greatest value of the output's
scale is at most 6.
"""

from __future__ import annotations

from converters.graph import Graph, Op, Tensor, options


def relu_as_quantize(graph: Graph) -> int:
    """Replace standalone RELU and RELU6.

    Args:
        graph: An int8 graph; changed in place.

    Returns:
        How many were replaced.
    """
    count = 0
    for relu in graph.of_kind("RELU", "RELU6"):
        if _saturates(relu.output, 6.0 if relu.kind == "RELU6" else float("inf")):
            graph.insert(Op("QUANTIZE", relu.inputs, relu.outputs, options("QuantizeOptions")), relu)
            graph.ops.remove(relu)
            count += 1
    return count


def _saturates(output: Tensor, highest: float) -> bool:
    if output.dtype != "INT8" or output.quantization is None:
        return False
    greatest = 255 * float(output.quantization.scale[0])
    return output.quantization.zero_point.tolist() == [-128] and greatest <= highest * (1 + 1e-6)
