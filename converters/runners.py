"""Running an artifact's files: float images in, float outputs out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from converters.folders import write_files
from keras_archs.quiet import quiet_tensorflow


def available_cores() -> int:
    """How many this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TFLiteRunner:
    """A TFLite model with batch size 1."""

    def __init__(self, content: bytes, num_threads: int) -> None:
        """Load the model.

        Args:
            content: The flatbuffer.
            num_threads: Threads that one inference may use.
        """
        from ai_edge_litert.interpreter import Interpreter

        with quiet_tensorflow():  # The runtime announces its delegate.
            self._interpreter = Interpreter(model_content=content, num_threads=num_threads)
            self._interpreter.allocate_tensors()
        self.input: dict[str, Any] = self._interpreter.get_input_details()[0]
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def in_signature_order(self) -> TFLiteRunner:
        """Sort the outputs as the Keras model has them; the file may list them in any order.

        Raises:
            ValueError: The model has several outputs, and no signature that says which is which.
        """
        if len(self.outputs) == 1:
            return self
        details = self._interpreter.get_signature_runner("serving_default").get_output_details()
        try:
            order = {tensor["index"]: int(key.rsplit("_", 1)[1]) for key, tensor in details.items()}
            self.outputs.sort(key=lambda tensor: order[tensor["index"]])
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"The model's signature has the outputs {sorted(details)}; output_0, output_1 and so on are "
                "accepted, one for each of the graph's."
            ) from error
        return self

    def set_input(self, sample: np.ndarray) -> None:
        """Take in one float sample (1, H, W, C)."""
        self._interpreter.set_tensor(self.input["index"], quantize(sample, self.input))

    def invoke(self) -> None:
        """Compute; what the latency is measured of."""
        self._interpreter.invoke()

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Run images one by one.

        Args:
            images: float32 (N, H, W, C).

        Returns:
            One float32 array (N, ...) an output.
        """
        results: list[list[np.ndarray]] = [[] for _ in self.outputs]
        for i in range(len(images)):
            self.set_input(images[i : i + 1])
            self.invoke()
            for result, tensor in zip(results, self.outputs, strict=True):
                result.append(dequantize(self._interpreter.get_tensor(tensor["index"]), tensor))
        return [np.concatenate(result) for result in results]


def quantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Bring float values into a tensor's own type, rounding half away from zero as TFLite does.

    Args:
        values: float32, any shape.
        tensor: An interpreter's description of the tensor.

    Returns:
        The values in the type of the tensor, same shape.
    """
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(tensor["dtype"], copy=False)
    steps = values / np.float32(scale)
    rounded = np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps) + zero_point
    limits = np.iinfo(tensor["dtype"])
    return np.clip(rounded, limits.min, limits.max).astype(tensor["dtype"])


def dequantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Bring a tensor's values back to float32.

    Args:
        values: Any shape.
        tensor: An interpreter's description of the tensor.

    Returns:
        float32, same shape.
    """
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


class SavedModelRunner:
    """A SavedModel with an open batch size."""

    def __init__(self, files: dict[str, bytes]) -> None:
        """Load the model.

        Args:
            files: Relative name to content, below `saved_model/`.
        """
        import tensorflow as tf

        with tempfile.TemporaryDirectory(prefix="converters-") as folder:
            write_files(files, Path(folder))
            # The variables are read here, so that the files are not needed afterwards.
            self._model = tf.saved_model.load(str(Path(folder, "saved_model")))
        self._serve = self._model.signatures["serve"]
        (self._input,) = self._serve.structured_input_signature[1]
        self._sample = np.empty(0, np.float32)

    def set_input(self, sample: np.ndarray) -> None:
        """Take in one float sample (1, H, W, C)."""
        self._sample = sample

    def invoke(self) -> None:
        """Compute; what the latency is measured of."""
        self.run(self._sample)

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Run images as one batch.

        Args:
            images: float32 (N, H, W, C).

        Returns:
            One float32 array (N, ...) an output.
        """
        import tensorflow as tf

        outputs = self._serve(**{self._input: tf.constant(images)})
        if len(outputs) == 1:  # It has a name that says what it is.
            return [output.numpy() for output in outputs.values()]
        return [outputs[f"output_{i}"].numpy() for i in range(len(outputs))]
