"""Where a TFLite model is to run, as a table: what each client takes, and a check of a model against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from converters.arena import micro_arena, op_name
from converters.delegates import Refusal, partitions
from converters.graph import COMPUTING, Graph, Op, Tensor
from converters.metadata import Metadata, read_metadata
from keras_archs.choices import check_choice


@dataclass(frozen=True)
class Target:
    """A client of .tflite files.

    Attributes:
        name: What users type.
        summary: One line for tables and help texts.
        recipes: Names of the recipes that make sense, the best first.
        input_type: Of an integer recipe's artifact.
        output_type: Of an integer recipe's artifact.
        inputs: Types that the client feeds, the best first.
        outputs: Types that the client reads, the best first.
        weights: Types of weights that it computes with.
        activations: Types that it computes in.
        delegate: Its table in `converters.delegates`; None where there is none.
        fallback: Whether what the delegate refuses runs on the CPU; else it does not run.
        channels: Of the image, if the client accepts no others.
        classifier: Whether there must be one input, one output, and one vector of scores in it.
        per_channel_dense: Whether dense weights may have a scale for each unit.
        metadata: Whether the file must describe its image and its labels.
        arena_bytes: Memory for tensors; None for no limit. See `dataclasses.replace`.
    """

    name: str
    summary: str
    recipes: tuple[str, ...]
    input_type: Literal["uint8", "int8", "float32"]
    output_type: Literal["uint8", "int8", "float32"]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    delegate: str | None
    fallback: bool = True
    channels: tuple[int, ...] = ()
    classifier: bool = False
    per_channel_dense: bool = True
    metadata: bool = False
    arena_bytes: int | None = None


class Finding(NamedTuple):
    """What in a model breaks a target, or costs there.

    Attributes:
        severity: An error keeps the model from running there, or from running right.
        where: A tensor, an operation, or "model".
        problem: What is so.
        advice: What to do about it.
    """

    severity: Literal["error", "warning"]
    where: str
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.problem}; {self.advice}"


_ANY_WEIGHTS = ("int8", "int4", "float16", "float32")
_INT8_OR_FLOAT = ("int8", "float32")

_ROWS = (
    # MediaPipe's image_tensor_specs.cc: uint8 or float32, int8 is rejected; its postprocessing: all outputs
    # quantized or none. ML Kit and the Task Library take the same. Metadata has normalisation and labels.
    Target(
        "mobile", "MediaPipe Tasks, ML Kit, Task Library: uint8 or float images, metadata with labels",
        ("int8", "float16", "float32", "dynamic_int8"), "uint8", "uint8", ("uint8", "float32"),
        ("uint8", "float32"), _ANY_WEIGHTS, ("int8", "int16", "float32"), "xnnpack", channels=(3,),
        classifier=True, metadata=True,
    ),
    # Compiled ahead of time by the chips' compilers (LiteRT's aot_compile): static int8 or float16 graphs.
    Target(
        "android_npu", "NPUs of Android phones, compiled ahead of time by LiteRT",
        ("int8", "float16"), "int8", "int8", ("int8", "uint8", "float32"), ("int8", "uint8", "float32"),
        ("int8", "float16", "float32"), _INT8_OR_FLOAT, None,
    ),
    # Coral's compiler 16.0 wants all of it in 8 bits.
    Target(
        "edgetpu", "Coral Edge TPU: full integer, compiled by edgetpu_compiler",
        ("int8",), "int8", "int8", ("int8", "uint8"), ("int8", "uint8"), ("int8", "uint8"),
        ("int8", "uint8"), "edgetpu",
    ),
    # Dense weights with a scale a unit gave wrong results before tflite-micro#2673.
    Target(
        "micro", "TFLite Micro on micro-controllers: full integer, dense weights of one scale, a small arena",
        ("int8", "int16x8"), "int8", "int8", ("int8", "int16"), ("int8", "int16"), ("int8",),
        ("int8", "int16"), "micro", fallback=False, per_channel_dense=False,
    ),
    # The GPU runs a quantized graph as float and rounds every result: a smaller file, not a faster one.
    Target(
        "gpu_delegate", "GPU of phones: float16 weights, float arithmetic",
        ("float16", "float32"), "float32", "float32", ("float32",), ("float32",), ("float16", "float32"),
        ("float32",), "gpu",
    ),
    # Core ML's delegate takes float32 only, and a MEAN that keeps its dimensions only.
    Target(
        "coreml_delegate", "Apple's Neural Engine through the Core ML delegate: float",
        ("float16", "float32"), "float32", "float32", ("float32",), ("float32",), ("float16", "float32"),
        ("float32",), "coreml",
    ),
    # LiteRT.js refuses tensors of type INT8 at the graph's border, not inside of it.
    Target(
        "browser", "LiteRT.js in web pages: float images and results, integers inside",
        ("int8", "float32", "float16", "dynamic_int8"), "float32", "float32", ("float32",), ("float32",),
        _ANY_WEIGHTS, _INT8_OR_FLOAT, "xnnpack",
    ),
)  # fmt: skip
TARGETS: dict[str, Target] = {row.name: row for row in _ROWS}


def list_targets() -> list[str]:
    """The names of the targets."""
    return list(TARGETS)


def get_target(name: str) -> Target:
    """Look a target up by its name.

    Args:
        name: A name of `list_targets`.

    Returns:
        The row of the table.

    Raises:
        ValueError: There is no such target; the message names the nearest.
    """
    check_choice("target", name, TARGETS)
    return TARGETS[name]


def lint(model: Graph | bytes, target: Target | str, metadata: Metadata | None = None) -> list[Finding]:
    """Check a model against a target.

    Args:
        model: A graph, or the content of a .tflite from a source that is trusted.
        target: A name of `list_targets`, or a target.
        metadata: What the file says about itself, in place of what is read from its bytes.

    Returns:
        What breaks the target first, then what costs there; empty if all is well.

    Raises:
        ValueError: There is no such target.
        ConversionError: The model has what `Graph` does not read.
    """
    row = get_target(target) if isinstance(target, str) else target
    graph = Graph(model) if isinstance(model, bytes) else model
    if metadata is None and isinstance(model, bytes):
        metadata = read_metadata(model)
    found = [finding for check in _CHECKS for finding in check(graph, row)]
    found += _check_metadata(graph, row, metadata)
    return sorted(found, key=lambda finding: finding.severity)


def _check_borders(graph: Graph, target: Target) -> Iterator[Finding]:
    sides = (
        ("input", "feeds", graph.inputs, target.inputs),
        ("output", "reads", graph.outputs, target.outputs),
    )
    for side, verb, tensors, accepted in sides:
        for tensor in tensors:
            if tensor.dtype.lower() not in accepted:
                yield Finding(
                    "error",
                    f"{side} {tensor.name!r}",
                    f"it is {tensor.dtype.lower()}, and {target.name} {verb} {' or '.join(accepted)}",
                    f"export with target={target.name!r}, whose {side} is {accepted[0]}",
                )
            if len(tensor.shape) > 1 and (tensor.shape[0] != 1 or _is_open(tensor)):
                size = "open" if _is_open(tensor) else tensor.shape[0]
                yield Finding(
                    "error", f"{side} {tensor.name!r}", f"its batch is {size}", "export with a batch of 1"
                )


def _is_open(tensor: Tensor) -> bool:
    """Whether a size is left to the caller; the shape has 1 in its place."""
    signature = getattr(tensor._raw, "shapeSignature", None)
    return signature is not None and any(size < 0 for size in signature)


def _check_image(graph: Graph, target: Target) -> Iterator[Finding]:
    if not target.classifier:
        return
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        count = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        yield Finding("error", "model", f"it has {count}", "export a model with one image and one output")
    for image in graph.inputs[:1]:
        if len(image.shape) != 4 or (target.channels and image.shape[3] not in target.channels):
            channels = " or ".join(str(number) for number in target.channels)
            yield Finding(
                "error",
                f"input {image.name!r}",
                f"its shape is {image.shape}, and {target.name} feeds (1, height, width, {channels})",
                "build the model for images of this form",
            )
    for scores in graph.outputs[:1]:
        if len(scores.shape) not in (2, 4) or any(size != 1 for size in scores.shape[:-1]):
            yield Finding(
                "error",
                f"output {scores.name!r}",
                f"its shape is {scores.shape}, and {target.name} reads (1, classes)",
                "end the model in a global pool and a dense layer",
            )


def _check_one_kind(graph: Graph, target: Target) -> Iterator[Finding]:
    integers = [tensor.dtype != "FLOAT32" for tensor in graph.outputs]
    if target.classifier and any(integers) and not all(integers):
        yield Finding("error", "model", "some outputs are quantized, some not", "quantize all or none")


def _check_custom(graph: Graph, target: Target) -> Iterator[Finding]:
    for op in graph.ops:
        if op.kind.startswith("CUSTOM "):
            select = op.kind.startswith("CUSTOM Flex")
            what = "a TensorFlow operation (select TF ops)" if select else "a custom operation"
            yield Finding(
                "error",
                op_name(op),
                f"it is {what}, which {target.name} does not have",
                "replace the layer by one that TFLite has a kernel for",
            )


def _check_arithmetic(graph: Graph, target: Target) -> Iterator[Finding]:
    wrong: dict[tuple[str, str], list[Op]] = {}
    for op in graph.ops:
        if op.kind in COMPUTING:
            image = op.inputs[2 if op.kind == "TRANSPOSE_CONV" else 0]
            weights = _stored(graph, op.inputs[1])
            for what, tensor, accepted in (
                ("computes in", image, target.activations),
                ("has weights in", weights, target.weights),
            ):
                if tensor is not None and tensor.dtype.lower() not in accepted:
                    wrong.setdefault((what, tensor.dtype.lower()), []).append(op)
    runs = target.delegate is not None and target.fallback and partitions(graph, target.delegate).taken > 0
    for (what, dtype), ops in wrong.items():
        accepted = target.weights if what == "has weights in" else target.activations
        yield Finding(
            "warning" if runs else "error",
            op_name(ops[0]) + (f" and {len(ops) - 1} more" if len(ops) > 1 else ""),
            f"it {what} {dtype}, and {target.name} is made for {' or '.join(accepted)}",
            f"export with the recipe {' or '.join(target.recipes)}",
        )


def _stored(graph: Graph, weights: Tensor | None) -> Tensor | None:
    """The constant that weights are unpacked from, if they are."""
    maker = graph.producer(weights) if weights is not None and not weights.is_constant else None
    return maker.inputs[0] if maker is not None and maker.kind == "DEQUANTIZE" else weights


def _check_dense(graph: Graph, target: Target) -> Iterator[Finding]:
    for op in graph.of_kind("FULLY_CONNECTED"):
        weights = op.inputs[1]
        quantization = weights.quantization if weights is not None else None
        if not target.per_channel_dense and quantization is not None and len(quantization.scale) > 1:
            yield Finding(
                "error",
                op_name(op),
                "its weights have a scale for each unit, which older TFLite Micro computes wrongly",
                f"export with target={target.name!r}, whose dense layers have one scale",
            )


def _check_delegate(graph: Graph, target: Target) -> Iterator[Finding]:
    if target.delegate is None:
        return
    found = partitions(graph, target.delegate)
    if found.taken == 0 and found.total and target.fallback:
        most = found.refused[0]
        problem = f"the {target.delegate} delegate takes none of its operations ({most.kind}: {most.reason})"
        yield Finding("error", "model", problem, f"export with the recipe {' or '.join(target.recipes)}")
        return
    for row in found.refused:
        if not row.kind.startswith("CUSTOM ") and (target.delegate, row.kind) not in _CHEAP:
            yield _refusal(target, target.delegate, row)
    if found.partitions > 1:
        yield Finding(
            "warning",
            "model",
            f"the {target.delegate} delegate runs it in {found.partitions} pieces",
            "export with the rewrites, which remove what it refuses",
        )


def _refusal(target: Target, delegate: str, row: Refusal) -> Finding:
    where = f"{row.ops} x {row.kind}"
    if not target.fallback:
        problem = f"{target.name} does not run it: {row.reason}"
        return Finding("error", where, problem, "use another layer: with this one the model does not start")
    advice = _ADVICE.get((delegate, row.kind), "it runs on the CPU: use another layer if its time matters")
    return Finding("warning", where, f"the {delegate} delegate refuses it: {row.reason}", advice)


# What helps where the general sentence would not.
_ADVICE = {
    ("coreml", "MEAN"): "pool with GlobalAveragePooling2D(keepdims=True) and flatten afterwards",
    ("xnnpack", "AVERAGE_POOL_2D"): "export with the rewrites, which make it a depthwise convolution",
    ("xnnpack", "RELU"): "export with the rewrites, which fuse it into the operation before",
}
# The step between uint8 and int8, and the end of a classifier: nobody has to do anything about them.
_CHEAP = (("xnnpack", "QUANTIZE"), ("xnnpack", "SOFTMAX"))


def _check_arena(graph: Graph, target: Target) -> Iterator[Finding]:
    if target.arena_bytes is None:
        return
    found = micro_arena(graph)
    if found.planned_bytes > target.arena_bytes:
        yield Finding(
            "error",
            found.peak_op,
            f"the arena needs {found.planned_bytes:,} bytes at least, most of them here, and there are "
            f"{target.arena_bytes:,}",
            "use smaller images or a narrower model",
        )


_CHECKS: tuple[Callable[[Graph, Target], Iterator[Finding]], ...] = (
    _check_borders,
    _check_image,
    _check_one_kind,
    _check_custom,
    _check_arithmetic,
    _check_dense,
    _check_delegate,
    _check_arena,
)


def _check_metadata(graph: Graph, target: Target, metadata: Metadata | None) -> Iterator[Finding]:
    if not target.metadata:
        return
    image = metadata.inputs[0] if metadata is not None and metadata.inputs else None
    floats = bool(graph.inputs) and graph.inputs[0].dtype == "FLOAT32"
    if floats and (image is None or not image.mean):
        yield Finding(
            "error",
            "metadata",
            f"it does not say how float images are normalised, and {target.name} refuses the model",
            "write it with converters.metadata.write_metadata",
        )
    if image is not None and any(len(set(numbers)) > 1 for numbers in (image.mean, image.std)):
        yield Finding(
            "error" if floats else "warning",
            "metadata",
            f"the channels are normalised differently, which {target.name} does not do",
            "export with the normalisation inside the model (include_preprocessing=True)",
        )
    if metadata is None or not any(output.labels for output in metadata.outputs):
        yield Finding(
            "warning",
            "metadata",
            "it has no labels: clients show numbers",
            "export with the names of the classes",
        )
