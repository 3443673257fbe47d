"""Parameters, multiply-accumulates, activations and receptive fields, from the layers' settings alone."""

import math
import operator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_archs.analysis.records import Analysis, Extent, Layer, Shape, Stage
from keras_archs.analysis.structure import Chain, stages
from keras_archs.assemble import SPECS
from keras_archs.layers import BlurPooling2D

# What a layer does, by class; a subclass does the same.
KINDS: dict[str, Any] = {
    "conv": (layers.Conv1D, layers.Conv2D, layers.Conv3D),
    "transposed": (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    "depthwise": (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    "separable": (layers.SeparableConv1D, layers.SeparableConv2D),
    "dense": (layers.Dense,),
    "max": (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    "average": (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    "global max": (layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    "global average": (
        layers.GlobalAveragePooling1D,
        layers.GlobalAveragePooling2D,
        layers.GlobalAveragePooling3D,
    ),
    "blur": (BlurPooling2D,),
    "upsample": (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
}
# They change the size of a map, and every output still sees what it saw.
BORDERS = (
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
)
# Their weights may be as large as a feature map and are used once for each of its numbers.
POINTWISE = (layers.PReLU, layers.LayerNormalization)
# Pixels in a line that one output of `UpSampling2D` mixes.
TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4, "lanczos3": 6, "lanczos5": 10}


@dataclass(frozen=True)
class _Call:
    """One call of one layer; shapes without the batch, `inputs` as in `Layer`."""

    operation: Any
    name: str
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape


@dataclass(frozen=True)
class _Reach:
    """What an output sees of the image: size of its receptive field, pixels to the next output."""

    field: Extent
    stride: Extent


def analyze(model: keras.Model, input_size: int | tuple[int, ...] | None = None) -> Analysis:
    """Counts what a model costs and sees, from its layers alone: nothing is run.

    Multiply-accumulates are those of convolutions and dense layers; biases, normalization, activations,
    pooling, sums and products of feature maps cost nothing here. Activations are the outputs of the same
    layers, as in Radosavovic et al. (2020), section 3.1 (arXiv:2003.13678). Receptive fields follow Araujo et
    al. (2019), doi:10.23915/distill.00021; where branches meet, the largest counts. A branch through global
    pooling, as a gate of squeeze-and-excite is, sees the whole image; where it meets a feature map it is left
    out, for it does not say where.

    Nested models are opened, and a shared layer is counted at each call, its parameters once. Of several
    outputs the one with the most layers before it is analysed, with these layers: the main classifier and not
    the auxiliary ones, the last of several feature maps.

    Args:
        model: A functional or Sequential model of one image.
        input_size: Height and width, one number for a square. Default: the model's own, or where that is
            open, the `size` of the model of this package that has its name.

    Returns:
        The record of the model, its stages and its layers.

    Raises:
        ValueError: If the model has no graph of layers, if `input_size` is missing or does not fit, or if a
            layer's cost or receptive field is unknown.
    """
    graph = _graph(model)
    if len(graph.inputs) != 1:
        raise ValueError(f"model={model.name!r} has {len(graph.inputs)} inputs; analyze needs a single one.")
    channels_first = _data_format(graph) == "channels_first"
    shape = _input_shape(model, graph.inputs[0].shape[1:], input_size, channels_first)
    image = keras.KerasTensor((None, *shape), graph.inputs[0].dtype)
    calls = [_Call(None, graph.inputs[0].name, (), (), shape)]
    outputs = _walk(graph, [(image, 0)], "", calls)
    needed = max((_leading_to(calls, position) for _, position in outputs), key=len)
    if len(needed) == 1:
        raise ValueError(f"model={model.name!r} has no layers between its image and its output.")

    rows = _rows(needed, channels_first)
    last_map = next((row for row in reversed(rows) if row.stride), rows[0])
    groups = stages(rows)
    return Analysis(
        name=model.name,
        input_shape=shape,
        receptive_field=last_map.receptive_field or (),
        stride=last_map.stride or (),
        stages=tuple(_stage(group) for group in groups),
        layers=tuple(rows),
        **_sums(rows),
    )


def _graph(model: Any) -> Any:
    """The functional model inside a Sequential one, or the model itself."""
    graph = getattr(model, "_functional", model)
    if not isinstance(model, keras.Model) or not hasattr(graph, "_nodes_by_depth"):
        name = getattr(model, "name", model)
        raise ValueError(
            f"model={name!r} of class {type(model).__name__} has no graph of layers; analyze needs a "
            "functional or a built Sequential model, and so must be the models inside it."
        )
    return graph


def _data_format(graph: Any) -> str:
    """Order of the axes, from the first layer that has one."""
    nested = [_data_format(_graph(layer)) for layer in graph.layers if isinstance(layer, keras.Model)]
    found = [layer.data_format for layer in graph.layers if getattr(layer, "data_format", None)]
    return next(iter([*found, *nested]), keras.config.image_data_format())


def _input_shape(
    model: keras.Model,
    shape: tuple[Any, ...],
    input_size: int | tuple[int, ...] | None,
    channels_first: bool,
) -> Shape:
    """Shape of one image of the size that the user wants."""
    own = shape[1:] if channels_first else shape[:-1]
    if input_size is None:
        spec = SPECS.get(model.name)
        if None in own and not spec:
            raise ValueError(f"input_size is needed: model={model.name!r} is open, its image is {shape}.")
        size = tuple(side or (spec.size if spec else 0) for side in own)
    else:
        sides = tuple(input_size) if isinstance(input_size, tuple | list) else (input_size,) * len(own)
        if len(sides) != len(own) or not all(_is_positive(side) for side in sides):
            raise ValueError(f"input_size={input_size!r} must be a positive integer, or {len(own)} of them.")
        size = tuple(operator.index(side) for side in sides)
    return (shape[0], *size) if channels_first else (*size, shape[-1])


def _is_positive(side: Any) -> bool:
    return hasattr(side, "__index__") and side is not True and side > 0


def _walk(
    graph: Any, arguments: list[tuple[keras.KerasTensor, int]], prefix: str, calls: list[_Call]
) -> list[tuple[keras.KerasTensor, int]]:
    """Appends the calls of a model's layers; gives its outputs, each with the position of its call."""
    specs, makers = {}, {}
    for tensor, (spec, maker) in zip(graph.inputs, arguments, strict=True):
        specs[id(tensor)], makers[id(tensor)] = spec, maker
    # Keras has no public way along the calls of a functional model; it walks them in this way itself.
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input:
                continue
            name = prefix + node.operation.name
            sources = [(specs[id(tensor)], makers[id(tensor)]) for tensor in node.input_tensors]
            if isinstance(node.operation, keras.Model):
                results = _walk(_graph(node.operation), sources, f"{name}/", calls)
            else:
                outputs = _outputs(node, specs, calls[0].output_shape, name)
                calls.append(
                    _Call(
                        operation=node.operation,
                        name=name,
                        inputs=tuple(maker for _, maker in sources),
                        input_shapes=tuple(spec.shape[1:] for spec, _ in sources),
                        output_shape=outputs[0].shape[1:],
                    )
                )
                results = [(spec, len(calls) - 1) for spec in outputs]
            for tensor, (spec, maker) in zip(node.output_tensors, results, strict=True):
                specs[id(tensor)], makers[id(tensor)] = spec, maker
    return [(specs[id(tensor)], makers[id(tensor)]) for tensor in graph.outputs]


def _outputs(
    node: Any, specs: dict[int, keras.KerasTensor], input_shape: Shape, name: str
) -> list[keras.KerasTensor]:
    """What a layer puts out for inputs of new shapes; an error if they do not fit it."""
    args, kwargs = node.arguments.fill_in(specs)
    axes = getattr(getattr(node.operation, "input_spec", None), "axes", None) or {}
    shape = specs[id(node.input_tensors[0])].shape
    try:
        # Shape inference would accept what the weights do not.
        if any(shape[axis] != size for axis, size in axes.items()):
            raise ValueError(f"its weights are for {node.input_tensors[0].shape[1:]}, not {shape[1:]}")
        outputs = keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
        if not all(size and size > 0 for spec in outputs for size in spec.shape[1:]):
            raise ValueError(f"it would put out {outputs[0].shape[1:]}")
    except Exception as error:  # layers have errors of many kinds for the same thing
        reason = str(error).rstrip(".")
        raise ValueError(
            f"input_size: an image of {input_shape} does not fit layer {name!r}: {reason}."
        ) from error
    return outputs


def _leading_to(calls: list[_Call], output: int) -> list[_Call]:
    """The calls that an output needs, renumbered."""
    needed = {output}
    for position in range(output, -1, -1):
        if position in needed:
            needed.update(calls[position].inputs)
    new = {old: position for position, old in enumerate(sorted(needed))}
    return [
        _Call(c.operation, c.name, tuple(new[i] for i in c.inputs), c.input_shapes, c.output_shape)
        for c in (calls[old] for old in new)
    ]


def _rows(calls: list[_Call], channels_first: bool) -> list[Layer]:
    """The record of each call."""
    rows: list[Layer] = []
    reaches: list[_Reach | None] = []
    seen: set[int] = set()
    for call in calls:
        kind = _kind(call)
        reach = _reach(call, kind, [reaches[i] for i in call.inputs], channels_first)
        weights = [] if id(call.operation) in seen else getattr(call.operation, "weights", [])
        trainable = getattr(call.operation, "trainable_weights", []) if weights else []
        seen.add(id(call.operation))
        channels = call.output_shape[0 if channels_first else -1]
        macs, activations = _cost(call, kind, channels)
        reaches.append(reach)
        rows.append(
            Layer(
                name=call.name,
                kind=kind,
                class_name=type(call.operation).__name__ if call.operation else "InputLayer",
                inputs=call.inputs,
                output_shape=call.output_shape,
                channels=channels,
                **_window(call.operation, kind),
                groups=getattr(call.operation, "groups", 1) if kind == "conv" else 1,
                parameters=sum(math.prod(weight.shape) for weight in weights),
                trainable=sum(math.prod(weight.shape) for weight in trainable),
                macs=macs,
                activations=activations,
                receptive_field=reach.field if reach else None,
                stride=reach.stride if reach else None,
            )
        )
    return rows


def _kind(call: _Call) -> str:
    if call.operation is None:
        return "input"
    for kind, classes in KINDS.items():
        if isinstance(call.operation, classes):
            # As many groups as input channels: a depthwise convolution by another name.
            depthwise = kind == "conv" and call.operation.groups > 1 == call.operation.kernel.shape[-2]
            return "depthwise" if depthwise else kind
    if len(set(call.inputs)) < 2:
        return "other"
    # `x + y` on tensors makes operations that have the names of the layers.
    name = type(call.operation).__name__
    if "Concat" in name:
        return "concat"
    if name == "Multiply":
        return "gate"
    return "sum" if call.output_shape in call.input_shapes else "other"


def _window(operation: Any, kind: str) -> dict[str, Shape]:
    """Kernel, step and dilation of a layer that has them."""
    if kind in ("conv", "transposed", "depthwise", "separable"):
        return {
            "kernel": tuple(operation.kernel_size),
            "step": _tuple(operation.strides, len(operation.kernel_size)),
            "dilation": _tuple(operation.dilation_rate, len(operation.kernel_size)),
        }
    if kind in ("max", "average", "blur"):
        # Keras' own layers have tuples here, BlurPooling2D has numbers for two dimensions.
        kernel, step = _tuple(operation.pool_size, 2), _tuple(operation.strides, 2)
        return {"kernel": kernel, "step": step, "dilation": (1,) * len(kernel)}
    if kind == "upsample":
        size = operation.size
        size = (size,) if isinstance(size, int) else tuple(size)
        taps = TAPS[getattr(operation, "interpolation", "nearest")]
        return {"kernel": (taps,) * len(size), "step": size, "dilation": (1,) * len(size)}
    return {}


def _tuple(number: int | tuple[int, ...], length: int) -> Shape:
    return (number,) * length if isinstance(number, int) else tuple(number)


def _reach(call: _Call, kind: str, inputs: list[_Reach | None], channels_first: bool) -> _Reach | None:
    """The receptive field and the stride of a call's output; None if it sees the whole image."""
    if kind == "input":
        ones = (1,) * (len(call.output_shape) - 1)
        return _Reach(ones, ones) if ones else None
    maps = [reach for reach in inputs if reach]
    if not maps:
        return None
    reach = _Reach(
        tuple(map(max, *(r.field for r in maps))) if len(maps) > 1 else maps[0].field,
        tuple(map(max, *(r.stride for r in maps))) if len(maps) > 1 else maps[0].stride,
    )
    window = _window(call.operation, kind)
    if window:
        return _Reach(*_through(reach, kind, **window))
    rank = len(reach.stride)
    sizes = {_spatial(shape, rank, channels_first) for shape in call.input_shapes}
    size = _spatial(call.output_shape, rank, channels_first)
    if size in sizes or isinstance(call.operation, BORDERS):
        return reach
    if len(call.output_shape) == rank + 1 and math.prod(size) > 1:
        raise ValueError(
            f"Layer {call.name!r} of class {type(call.operation).__name__} makes {size} of {sizes.pop()} in "
            "a way that analyze does not know, so its receptive field is unknown."
        )
    return None


def _through(reach: _Reach, kind: str, kernel: Shape, step: Shape, dilation: Shape) -> tuple[Extent, Extent]:
    """Receptive field and stride behind a window (Araujo et al. 2019, equation 2)."""
    if kind == "transposed":  # an output mixes every step-th position of its window
        kernel = tuple(-(-((k - 1) * d + 1) // s) for k, s, d in zip(kernel, step, dilation, strict=True))
        dilation = (1,) * len(kernel)
    field = tuple(
        size + (k - 1) * d * jump
        for size, k, d, jump in zip(reach.field, kernel, dilation, reach.stride, strict=True)
    )
    if kind in ("transposed", "upsample"):
        stride = tuple(
            jump // s if jump % s == 0 else jump / s for jump, s in zip(reach.stride, step, strict=True)
        )
    else:
        stride = tuple(jump * s for jump, s in zip(reach.stride, step, strict=True))
    return field, stride


def _spatial(shape: Shape, rank: int, channels_first: bool) -> Shape:
    return shape[-rank:] if channels_first else shape[:rank]


def _cost(call: _Call, kind: str, channels: int) -> tuple[int, int]:
    """Multiply-accumulates and activations of a call."""
    layer, outputs = call.operation, math.prod(call.output_shape)
    if kind == "dense":
        return outputs // layer.units * math.prod(layer.kernel.shape), outputs
    if kind in ("conv", "depthwise"):
        return outputs // channels * math.prod(layer.kernel.shape), outputs
    if kind == "separable":
        positions = outputs // layer.filters
        depthwise, pointwise = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        return (
            positions * (math.prod(depthwise) + math.prod(pointwise)),
            positions * math.prod(depthwise[-2:]) + outputs,
        )
    if kind == "transposed":
        inputs = math.prod(call.input_shapes[0]) // layer.kernel.shape[-1]
        return inputs * math.prod(layer.kernel.shape), outputs
    if isinstance(layer, POINTWISE):
        return 0, 0
    shapes = [weight.shape for weight in getattr(layer, "weights", [])]
    if any(math.prod(shape) > max(shape, default=1) for shape in shapes):
        raise ValueError(
            f"Layer {call.name!r} of class {type(layer).__name__} has weights of shape {shapes}, and analyze "
            "does not know what it costs. It knows layers whose weights are vectors, and these: "
            f"{', '.join(KINDS)}."
        )
    return 0, 0


def _sums(rows: list[Layer]) -> dict[str, int]:
    names = ("parameters", "trainable", "macs", "activations")
    return {name: sum(getattr(row, name) for row in rows) for name in names}


def _stage(chain: Chain) -> Stage:
    rows = [row for element in chain for row in element.layers]
    kinds = [row.kind for row in rows]
    named = [e for e in chain if any(layer.macs for layer in e.layers)] or list(chain)
    names = dict.fromkeys((named[0].name, named[-1].name))
    return Stage(
        name=" - ".join(names),
        sums=kinds.count("sum"),
        concatenations=kinds.count("concat"),
        separable=kinds.count("separable") + kinds.count("depthwise"),
        output_shape=chain[-1].main.output_shape,
        receptive_field=chain[-1].main.receptive_field,
        stride=chain[-1].main.stride,
        **_sums(rows),
    )
