"""Keras model -> SavedModel. Needs the TensorFlow backend."""

from __future__ import annotations

from pathlib import Path

import keras

from converters.keras_model import call
from keras_archs.quiet import quiet_tensorflow

SIGNATURE = "serve"


def export_saved_model(
    model: keras.Model, input_shape: tuple[int, int, int], batch: int | None, folder: Path
) -> None:
    """Write a model's inference graph and its weights.

    keras.export.ExportArchive stores every variable twice, as itself and as the tensor in it, which
    doubles the file and the time to load it; so the graph is saved with the bare tensors here.

    Args:
        model: A model computing in float32.
        input_shape: (H, W, C).
        batch: The batch size to fix, None to leave it open.
        folder: Where to write; made if missing.
    """
    import tensorflow as tf

    image = tf.TensorSpec([batch, *input_shape], tf.float32, name="image")

    @tf.function(input_signature=[image], autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = keras.tree.flatten(call(model, image))
        return {f"output_{i}": output for i, output in enumerate(outputs)}

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.serve = serve
    # The debug information holds the paths of this machine and would differ from one to the next.
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    signatures = {SIGNATURE: serve, "serving_default": serve}
    with quiet_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=signatures, options=options)
