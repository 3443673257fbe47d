"""Reading a .tflite file's structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

_PASSING_ON = ("QUANTIZE", "DEQUANTIZE")


def describe(content: bytes) -> dict[str, Any]:
    """Count what is in a TFLite model.

    Args:
        content: The flatbuffer.

    Returns:
        tensors_by_dtype and ops, both name to number; float_tensors, their names.
    """
    from ai_edge_litert import schema_py_generated as schema

    dtypes, ops, floats = Counter[str](), Counter[str](), []
    type_names = _names(schema.TensorType)
    for graph, codes in _graphs(content):
        for i in range(graph.TensorsLength()):
            tensor = graph.Tensors(i)
            dtype = type_names[tensor.Type()].lower()
            dtypes[dtype] += 1
            if "float" in dtype:
                floats.append((tensor.Name() or b"").decode(errors="replace"))
        ops.update(codes[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength()))
    return {
        "tensors_by_dtype": dict(sorted(dtypes.items())),
        "ops": dict(sorted(ops.items())),
        "float_tensors": floats,
    }


def with_logits(content: bytes) -> bytes | None:
    """The same model, with the input of its final softmax as its output.

    The index of the output is overwritten in place: all else, and so each kernel that runs, stays.

    Args:
        content: The flatbuffer of a model with one output.

    Returns:
        The changed flatbuffer, or None when the model does not end in a softmax.
    """
    changed = bytearray(content)
    graph, codes = next(_graphs(changed))
    outputs = graph.OutputsAsNumpy()
    makers = {graph.Operators(i).Outputs(0): graph.Operators(i) for i in range(graph.OperatorsLength())}
    maker = makers.get(int(outputs[0]))
    while maker is not None and codes[maker.OpcodeIndex()] in _PASSING_ON:
        maker = makers.get(maker.Inputs(0))
    if len(outputs) != 1 or maker is None or codes[maker.OpcodeIndex()] != "SOFTMAX":
        return None
    outputs[0] = maker.Inputs(0)
    return bytes(changed)


def _graphs(content: bytes | bytearray) -> Iterator[tuple[Any, list[str]]]:
    """Each subgraph with the names of the model's operator codes."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    names = _names(schema.BuiltinOperator)
    codes = [_code(model.OperatorCodes(i), names) for i in range(model.OperatorCodesLength())]
    for i in range(model.SubgraphsLength()):
        yield model.Subgraphs(i), codes


def _code(code: Any, names: dict[int, str]) -> str:
    # Files from before there were 127 operators have their number in the deprecated field.
    name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    return f"CUSTOM {code.CustomCode().decode()}" if name == "CUSTOM" else name


def _names(enum: type) -> dict[int, str]:
    return {number: name for name, number in vars(enum).items() if isinstance(number, int)}
