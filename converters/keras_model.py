"""What is asked of a Keras model before and after its conversion; the caller's model never changes."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras

_ACCEPTED = "Accepted: a Functional or built Sequential keras.Model with one image input, or a path to one"

_MOST_BYTES = 2**31  # what a flatbuffer can hold


def load_model(model_or_path: keras.Model | str | Path) -> keras.Model:
    """Read a model file, or pass a model through.

    Args:
        model_or_path: A Keras model, or the path of a `.keras` or full-model `.h5` file.

    Returns:
        The model; one read from a file is not compiled.

    Raises:
        TypeError: It is neither a model nor a path.
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a whole Keras model.
    """
    if isinstance(model_or_path, keras.Model):
        return model_or_path
    if not isinstance(model_or_path, (str, Path)):
        raise TypeError(f"model_or_path is a {type(model_or_path).__name__}. {_ACCEPTED}.")
    path = Path(model_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"model_or_path={str(path)!r} is not a file. {_ACCEPTED}.")
    if path.suffix not in (".keras", ".h5"):
        raise ValueError(f"model_or_path={str(path)!r} must end in .keras or .h5.")
    _check_file(path)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"model_or_path={str(path)!r} cannot be read as a Keras model: {error}") from error


def _check_file(path: Path) -> None:
    """Tell a truncated or weights-only file apart before Keras gives a vaguer answer."""
    if path.suffix == ".keras":
        if not zipfile.is_zipfile(path):
            raise ValueError(f"model_or_path={str(path)!r} is truncated or not a .keras file.")
        return
    import h5py

    try:
        with h5py.File(path) as file:
            whole = "model_config" in file.attrs
    except OSError as error:
        raise ValueError(f"model_or_path={str(path)!r} is truncated or not an HDF5 file: {error}") from error
    if not whole:
        raise ValueError(
            f"model_or_path={str(path)!r} holds weights only. Build the model, load the weights into it, "
            "and convert the model."
        )


def check_model(model: keras.Model, input_shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Check that a model can be converted, and settle the size of its image.

    Args:
        model: Any Keras model. A Sequential one that is not built yet is built for `input_shape`.
        input_shape: (H, W, C), needed when the model leaves some of them open.

    Returns:
        (H, W, C), all known.

    Raises:
        ValueError: The model is subclassed, has several inputs, an input that is no image, or a size that is
            open or disagrees with `input_shape`.
    """
    if input_shape is not None and not _is_shape(input_shape):
        raise ValueError(f"input_shape={input_shape!r} must be three positive integers (H, W, C).")
    if isinstance(model, keras.Sequential) and not model.built and input_shape is not None:
        model.build((None, *input_shape))
    if not getattr(model, "inputs", None):
        kind = "Sequential, not built: give input_shape=(H, W, C)"
        if not isinstance(model, keras.Sequential):
            kind = "subclassed, so it has no graph of layers"
        raise ValueError(f"model {model.name!r} is {kind}. {_ACCEPTED}.")
    if len(model.inputs) != 1:
        names = ", ".join(tensor.name for tensor in model.inputs)
        raise ValueError(f"model {model.name!r} has {len(model.inputs)} inputs ({names}). {_ACCEPTED}.")
    return _image_size(model, input_shape)


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, (tuple, list))
        and len(shape) == 3
        and all(isinstance(size, int) and size > 0 for size in shape)
    )


def _image_size(model: keras.Model, input_shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    image = model.inputs[0]
    if len(image.shape) != 4 or image.shape[0] not in (None, 1):
        raise ValueError(
            f"model {model.name!r} takes {tuple(image.shape)}; (None, H, W, C) is accepted, "
            "with the batch size left open."
        )
    if "float" not in image.dtype and "int" not in image.dtype:
        raise ValueError(f"model {model.name!r} takes {image.dtype} input; an image of numbers is accepted.")
    own = tuple(image.shape[1:])
    wanted = own if input_shape is None else tuple(input_shape)
    if None in wanted:
        raise ValueError(f"model {model.name!r} leaves its size open, {own}: give input_shape=(H, W, C).")
    if any(mine not in (None, size) for mine, size in zip(own, wanted, strict=True)):
        raise ValueError(f"input_shape={wanted} disagrees with model {model.name!r}, which takes {own}.")
    return wanted[0], wanted[1], wanted[2]


def check_weights(model: keras.Model) -> None:
    """Refuse a model whose weights a TFLite file cannot hold, before the converter runs out of memory on it.

    Args:
        model: A built Keras model.

    Raises:
        ValueError: Its kernels take 2 GB or more in float32, in which every conversion starts.
    """
    # Batch norms may fold away, kernels stay.
    size = sum(4 * math.prod(weight.shape) for weight in model.weights if len(weight.shape) > 1)
    if size >= _MOST_BYTES:
        raise ValueError(
            f"model {model.name!r} has {size / 1e9:.1f} GB of float32 weights; less than "
            f"{_MOST_BYTES / 1e9:.1f} GB are accepted, because every TFLite file is made from one in float32."
        )


def float32_twin(model: keras.Model) -> keras.Model:
    """The same model computing in float32, from a float32 image, with names that TensorFlow accepts.

    Keras lets layers have any name and a precision of their own; an exported graph cannot. A model of integer
    images, 0..255, becomes one of the same values as float.

    Args:
        model: A model that passed `check_model`.

    Returns:
        `model` itself when all of it is so already, otherwise a copy with the same weights.

    Raises:
        ValueError: A layer cannot be copied because it does not say how it is configured.
    """
    integer = "int" in model.inputs[0].dtype
    if not integer and all(_is_exportable(layer) for layer in _all_layers(model)):
        return model
    # Layers that a custom layer makes for itself take the global policy.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        if integer:
            twin = _clone_from_float_image(model)
        else:
            twin = keras.models.clone_model(model, clone_function=_float32_layer, recursive=True)
    except Exception as error:
        raise ValueError(f"model {model.name!r} cannot be copied for its export: {error}") from error
    finally:
        keras.config.set_dtype_policy(policy)
    twin.set_weights(model.get_weights())
    return twin


def _clone_from_float_image(model: keras.Model) -> keras.Model:
    image, outputs = model.inputs[0], model.outputs
    graph = keras.Model(image, outputs[0] if len(outputs) == 1 else outputs, name=model.name)
    name = re.sub(r"\W", "_", image.name)
    float_image = keras.Input(batch_shape=image.shape, dtype="float32", name=name)
    return keras.models.clone_model(graph, float_image, _float32_layer, recursive=True)


def _all_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for inner in getattr(layer, "layers", []):
        yield from _all_layers(inner)


def _is_exportable(layer: keras.layers.Layer) -> bool:
    return not _other_float(layer.dtype_policy.compute_dtype) and layer.name == _scope(layer.name)


def _other_float(dtype: str | None) -> bool:
    return dtype is not None and "float" in dtype and dtype != "float32"


def _scope(name: str) -> str:
    """A layer's name as TensorFlow accepts it."""
    return re.sub(r"^[^A-Za-z0-9.]|[^A-Za-z0-9_.\\/>-]", lambda match: f".{ord(match[0]):x}", name)


def _float32_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = _with_float32(layer.get_config())
    return type(layer).from_config({**config, "name": _scope(layer.name)})


def _with_float32(config: Any) -> Any:
    """Replace every other float type in a layer's configuration, wrapped layers included."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" and _other_float(_policy_name(value)) else _with_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32(value) for value in config)
    return config


def _policy_name(dtype: Any) -> str | None:
    return dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype


def call(model: keras.Model, images: Any) -> Any:
    """Run a model for inference, whether its one input is bare, in a list or in a dict.

    Args:
        model: A model that passed `check_model`.
        images: (N, H, W, C), an array or a tensor.

    Returns:
        The model's output, in its own structure.
    """
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return model(keras.tree.pack_sequence_as(structure, [images]), training=False)


@dataclass(frozen=True)
class End:
    """How a model ends.

    Attributes:
        kind: softmax: class probabilities; linear: no activation; sigmoid and other: what they say.
        logits: Images (N, H, W, C) to what the model's softmax is made of, or to its output without one.
    """

    kind: Literal["softmax", "linear", "sigmoid", "other"]
    logits: Callable[[Any], Any]


def model_end(model: keras.Model) -> End:
    """Find the logits of a model without changing it.

    Args:
        model: A model with one output.

    Returns:
        Its end. A last layer that applies the softmax itself is replaced by a copy that does not.
    """
    operation, before = _last_step(model.outputs[0])
    if isinstance(operation, keras.Model) and len(operation.outputs) == 1:
        inner = model_end(operation)
        kind, head = inner.kind, inner.logits
    else:
        kind = _kind(operation)
        head = _without_softmax(operation, before) if kind == "softmax" else operation
    if kind != "softmax":
        return End(kind, partial(call, model))
    features = keras.Model(model.inputs[0], before)
    return End("softmax", lambda images: head(features(images, training=False)))


def _last_step(output: keras.KerasTensor) -> tuple[Any, keras.KerasTensor]:
    """The operation that makes a tensor, and what it makes it from."""
    # Keras has no public way from a tensor to its maker when a layer is used more than once.
    operation, node_index, _ = output._keras_history
    inputs = operation._inbound_nodes[node_index].input_tensors
    return operation, inputs[0] if inputs else output


def _kind(operation: Any) -> Literal["softmax", "linear", "sigmoid", "other"]:
    name = type(operation).__name__.lower()
    if type(operation) in (keras.layers.Dense, keras.layers.Conv2D, keras.layers.Activation):
        name = getattr(operation.activation, "__name__", "other")
    kinds: dict[str, Literal["softmax", "linear", "sigmoid", "other"]]
    kinds = {"softmax": "softmax", "linear": "linear", "sigmoid": "sigmoid"}
    return kinds.get(name, "other")


def _without_softmax(operation: Any, before: keras.KerasTensor) -> Callable[[Any], Any]:
    if not getattr(operation, "weights", None):
        return lambda values: values
    linear = type(operation).from_config({**operation.get_config(), "activation": "linear"})
    linear.build(before.shape)
    linear.set_weights(operation.get_weights())
    return linear
