"""Files of named tensors: safetensors, PyTorch's .pth, TF-slim's checkpoints. Read one tensor at a time."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_archs.weights.errors import WeightsError

Shape = tuple[int, ...]
# Beside the weights in a state_dict, and beside them in a checkpoint of slim's trainer.
NO_WEIGHTS = (".num_batches_tracked", ".total_ops", ".total_params")
SLIM_NO_WEIGHTS = (
    "global_step",
    "mean_rgb",  # in the published resnet_v1 and vgg
    "beta1_power",
    "beta2_power",
    "/ExponentialMovingAverage",
    "/Momentum",
    "/Adagrad",
    *(f"/{slot}{end}" for slot in ("Adadelta", "Adam", "Ftrl", "RMSProp") for end in ("", "_1")),
)
# Training scripts wrap the state_dict in a dictionary with other things.
WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema")


@dataclass(frozen=True)
class TensorFile:
    """Names and shapes of all tensors, and a function that reads one."""

    shapes: dict[str, Shape]
    read: Callable[[str], np.ndarray]


@contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """Opens a file of named tensors.

    Args:
        path: A .safetensors or .pth file, or a checkpoint prefix ending in .ckpt.

    Yields:
        Its tensors.

    Raises:
        WeightsError: If it is damaged, holds anything but tensors, or if what reads it is not installed.
    """
    with ExitStack() as stack:
        with _readable(path):
            if path.suffix == ".safetensors":
                file = stack.enter_context(_safetensors(path))
            else:
                file = _pth(path) if path.suffix == ".pth" else _checkpoint(path)

        def read(name: str) -> np.ndarray:
            with _readable(path):
                return file.read(name)

        yield TensorFile(file.shapes, read)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Says which file it is that can't be read, and why."""
    try:
        yield
    except (WeightsError, MemoryError):
        raise
    except ImportError as error:
        package = error.name or "the package that reads it"
        raise WeightsError(f"weights={str(path)!r} needs {package}: pip install {package}.") from error
    except Exception as error:  # safetensors, torch, zipfile and TensorFlow raise anything on damaged files
        raise WeightsError(f"weights={str(path)!r} is damaged or of another format: {error}") from error


@contextmanager
def _safetensors(path: Path) -> Iterator[TensorFile]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        yield TensorFile(_without(shapes, NO_WEIGHTS), file.get_tensor)


def _pth(path: Path) -> TensorFile:
    import torch

    # weights_only: an unpickler that builds tensors and containers, and refuses everything else.
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its message says how to run the code all the same
        raise WeightsError(
            f"weights={str(path)!r} is damaged, or holds objects beside tensors, which are never opened. "
            "Save its state_dict alone, best as .safetensors."
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"weights={str(path)!r} holds no state_dict: a dictionary of tensors by name.")
    # Of models trained by DataParallel.
    tensors = {name.removeprefix("module."): value for name, value in state.items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return TensorFile(_without(shapes, NO_WEIGHTS), lambda name: tensors[name].float().numpy())


def _checkpoint(path: Path) -> TensorFile:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path).removesuffix(".index"))
    found = _without(reader.get_variable_to_shape_map(), SLIM_NO_WEIGHTS)
    # slim puts the whole network below one scope, "resnet_v1_50/"; facenet has "Logits/" beside it.
    scopes = [name.split("/")[0] for name in found]
    top = max(set(scopes), key=scopes.count)
    full = {name.removeprefix(f"{top}/"): name for name in found}
    return TensorFile(
        {name: tuple(found[full[name]]) for name in full}, lambda name: reader.get_tensor(full[name])
    )


def _without(shapes: dict[str, Any], endings: tuple[str, ...]) -> dict[str, Any]:
    return {name: shape for name, shape in shapes.items() if not name.endswith(endings)}
