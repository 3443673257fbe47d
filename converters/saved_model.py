"""Keras model -> SavedModel. Needs the TensorFlow backend."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from converters.errors import ConversionError
from converters.folders import write_files
from converters.keras_model import call, model_end
from keras_archs.choices import check_choice
from keras_archs.modes import Mode
from keras_archs.quiet import quiet_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

SIGNATURE = "serve"
INPUT = "images"

# Pillow's filters as TensorFlow calls them; both widen where the image shrinks.
KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
_OUTPUT_NAMES = {"softmax": "probabilities", "sigmoid": "probabilities", "linear": "logits"}
# By how much the JPEG decoder can shrink.
_RATIOS = (1, 2, 4, 8)
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
# How far a JPEG is searched for its orientation: bytes, segments, entries. More than cameras write.
_HEAD, _SEGMENTS, _ENTRIES = 1 << 17, 32, 256
_EXIF, _EXIF_AT = b"\xff\xe1Exif\0\0", (0, 1, 4, 5, 6, 7, 8, 9)
_ORIENTATION = 0x0112  # the tag
_BIG, _BIG_FOUR = (256, 1), (1 << 24, 1 << 16, 256, 1)  # big endian


@dataclass(frozen=True)
class Preprocessing:
    """What becomes of an image, RGB 0..255 and of any size, before the network sees it.

    Attributes:
        mode: The arithmetic: a row of `keras_archs.modes.MODES`, or one of your own.
        crop_share: Side of the central square that is cut out over the short side of the scaled image.
        interpolation: How the image is scaled: "bilinear", as `keras_archs` trains and evaluates, or
            "bicubic".
    """

    mode: Mode
    crop_share: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: One of them is not accepted.
        """
        check_choice("interpolation", self.interpolation, list(KERNELS))
        if not 0 < self.crop_share <= 1:
            raise ValueError(f"crop_share={self.crop_share!r} must be above 0 and at most 1.")
        for name, values in (("mean", self.mode.mean), ("deviation", self.mode.deviation)):
            if len(values) not in (1, 3):
                raise ValueError(f"mode.{name}={values!r} must be one number, or three for RGB images.")
        if 0 in self.mode.deviation:
            raise ValueError(f"mode.deviation={self.mode.deviation!r} must not hold a zero.")


def export_saved_model(
    model: keras.Model, input_shape: tuple[int, int, int], batch: int | None, folder: Path
) -> None:
    """Write a model's inference graph and its weights.

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

    _save(model, {SIGNATURE: serve}, folder)


def export_for_serving(
    model: keras.Model,
    input_shape: tuple[int, int, int],
    folder: Path,
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write a model's inference graph and its weights, to be served to clients: the batch size is open.

    The signatures take `images` and give `output_names(model)`:

    * `serve`, also called `serving_default`: float32 (N, H, W, C), preprocessed as in training;
    * `serve_raw`: uint8 (N, H', W', 3) of any size, RGB 0..255, read as `keras_archs` reads an array: taken
      as it is if it has the network's size, else scaled, and its middle cut out;
    * `serve_jpeg`: (N,) encoded JPEG or PNG files, read as `keras_archs` reads a file: turned upright as the
      EXIF data of a JPEG says, white put behind what is transparent, scaled, and the middle cut out.

    Args:
        model: A model computing in float32.
        input_shape: (H, W, C).
        folder: Where to write; made if missing.
        preprocessing: What the raw images need. None leaves `serve` alone.

    Raises:
        ValueError: There is a preprocessing, but the images have not 3 channels.
    """
    import tensorflow as tf

    if preprocessing is not None and input_shape[2] != 3:
        raise ValueError(
            f"preprocessing is for RGB images, but input_shape={input_shape} has {input_shape[2]} channels: "
            "give None."
        )
    names = output_names(model)

    @tf.function(input_signature=[_images([None, *input_shape], tf.float32)], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, keras.tree.flatten(call(model, images)), strict=True))

    signatures = {SIGNATURE: serve}
    if preprocessing is not None:
        signatures |= _raw_signatures(serve, input_shape[:2], preprocessing)
    _save(model, signatures, folder)


def output_names(model: keras.Model) -> tuple[str, ...]:
    """What the outputs of `export_for_serving` are called.

    Args:
        model: A model that passed `check_model`.

    Returns:
        "probabilities" after a softmax or sigmoid, "logits" after a linear layer; "output_0" of a model that
        ends in anything else, and "output_0", "output_1", ... of one with several outputs.
    """
    if len(model.outputs) == 1 and (name := _OUTPUT_NAMES.get(model_end(model).kind)):
        return (name,)
    return tuple(f"output_{i}" for i in range(len(model.outputs)))


def check_loads_alone(folder: Path) -> tuple[str, ...]:
    """Load a SavedModel in a process that has TensorFlow and neither Keras nor us, and run what it offers.

    Takes the seconds in which TensorFlow is imported.

    Args:
        folder: The SavedModel.

    Returns:
        The names of its signatures, all of which ran.

    Raises:
        ConversionError: It cannot be loaded, or a signature fails.
    """
    # -P: a file in the current folder must not be imported instead of a package. No GPU: the parent has it.
    command = [sys.executable, "-P", "-c", _ALONE, str(folder)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        errors = re.findall(r"^\w[\w.]*(?:Error|Exception)\b.*", result.stderr, re.MULTILINE)
        reason = errors[-1] if errors else f"its process ended with status {result.returncode}"
        raise ConversionError(
            f"SavedModel {str(folder)!r} does not run without Keras and this package: {reason}",
            result.stderr,
        )
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def check_files_load_alone(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The same of a SavedModel that is not written yet.

    Args:
        files: Relative name to content, below `saved_model/`.

    Returns:
        As `check_loads_alone`.

    Raises:
        ConversionError: Likewise.
    """
    with tempfile.TemporaryDirectory(prefix="converters-") as folder:
        write_files(files, Path(folder))
        return check_loads_alone(Path(folder, "saved_model"))


_ALONE = """
import json, sys

class AllBut:
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "tf_keras", "keras_archs", "keras_archs_cli", "converters"):
            return None
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in specs if spec), None)

sys.meta_path[:] = [AllBut(list(sys.meta_path))]
import tensorflow as tf

picture = tf.io.encode_jpeg(tf.zeros((5, 7, 3), tf.uint8))
signatures = tf.saved_model.load(sys.argv[1]).signatures
for signature in signatures.values():
    inputs = {}
    for name, spec in signature.structured_input_signature[1].items():
        shape = [2, *(size or 9 for size in spec.shape[1:])]
        inputs[name] = tf.fill(shape, picture) if spec.dtype == tf.string else tf.zeros(shape, spec.dtype)
    signature(**inputs)
print(json.dumps(list(signatures)))
"""


def _save(model: keras.Model, signatures: dict[str, Any], folder: Path) -> None:
    """Write functions and the weights they use.

    keras.export.ExportArchive stores every variable twice, as itself and as the tensor in it, which
    doubles the file and the time to load it; so the graph is saved with the bare tensors here.
    """
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    for name, function in signatures.items():
        setattr(module, name, function)
    # The debug information holds the paths of this machine and would differ from one to the next.
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    signatures = {**signatures, "serving_default": signatures[SIGNATURE]}
    with quiet_tensorflow():
        tf.saved_model.save(module, str(folder), signatures=signatures, options=options)


def _raw_signatures(serve: Any, size: tuple[int, int], preprocessing: Preprocessing) -> dict[str, Any]:
    """The signatures that take what a client has; `serve` is in the graph once, and called by them."""
    import tensorflow as tf

    normalized = _normalizer(preprocessing.mode, size)

    @tf.function(input_signature=[_images([None, None, None, 3], tf.uint8)], autograph=False)
    def serve_raw(images: tf.Tensor) -> dict[str, tf.Tensor]:
        fits = tf.reduce_all(tf.equal(tf.shape(images)[1:3], size))
        cut = tf.cond(fits, lambda: images, lambda: _cut(images, size, preprocessing))
        return serve(normalized(tf.ensure_shape(cut, [None, *size, 3])))

    @tf.function(input_signature=[_images([None], tf.string)], autograph=False)
    def serve_jpeg(images: tf.Tensor) -> dict[str, tf.Tensor]:
        def read(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            pixels = _decoded(*numbered, _scaled_size(size, preprocessing))
            return _cut(pixels[None], size, preprocessing)[0]

        numbered = (tf.range(tf.size(images)), images)
        cut = tf.map_fn(read, numbered, fn_output_signature=tf.TensorSpec([*size, 3], tf.uint8))
        return serve(normalized(cut))

    return {"serve_raw": serve_raw, "serve_jpeg": serve_jpeg}


def _images(shape: list[int | None], dtype: tf.DType) -> tf.TensorSpec:
    import tensorflow as tf

    return tf.TensorSpec(shape, dtype, name=INPUT)


def _normalizer(mode: Mode, size: tuple[int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """`preprocess_input` of uint8 (N, *size, 3)."""
    import tensorflow as tf

    # Whole rows of an image at a time: TensorFlow is slow where only the three channels are an axis. Made out
    # here, the divisors are inputs of the graph; it would turn constants into factors, with another last bit.
    mean, deviation = (
        tf.constant(np.tile(np.resize(values, 3), size[1]), tf.float32)
        for values in (mode.mean, mode.deviation)
    )

    def normalized(pixels: tf.Tensor) -> tf.Tensor:
        pixels = tf.reverse(pixels, [-1]) if mode.bgr else pixels
        rows = tf.reshape(tf.cast(pixels, tf.float32), [-1, size[0], 3 * size[1]])
        return tf.reshape((rows - mean) / deviation, [-1, *size, 3])

    return normalized


def _scaled_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width of which the middle is cut out."""
    return round(size[0] / preprocessing.crop_share), round(size[1] / preprocessing.crop_share)


def _cut(images: tf.Tensor, size: tuple[int, int], preprocessing: Preprocessing) -> tf.Tensor:
    """Scale uint8 (N, H, W, 3), and cut out the middle (N, *size, 3)."""
    height, width = _scaled_size(size, preprocessing)
    scaled = _fit(images, (height, width), KERNELS[preprocessing.interpolation])
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return scaled[:, top : top + size[0], left : left + size[1]]


def _fit(images: tf.Tensor, size: tuple[int, int], kernel: str) -> tf.Tensor:
    """Pillow's `ImageOps.fit` of uint8 (N, H, W, 3): the largest middle part of that shape, scaled."""
    import tensorflow as tf

    whole = tf.cast(tf.shape(images)[1:3], tf.float64)
    part = tf.reduce_min(whole / size) * tf.constant(size, tf.float64)
    scale = size / part
    shift = (part - whole) / 2 * scale

    def along(axis: int, images: tf.Tensor) -> tf.Tensor:
        here = tf.one_hot(axis, 2, on_value=True, off_value=False)
        scaled = tf.raw_ops.ScaleAndTranslate(
            images=images,
            size=tf.where(here, size, tf.shape(images)[1:3]),
            scale=tf.where(here, tf.cast(scale, tf.float32), 1.0),
            translation=tf.where(here, tf.cast(shift, tf.float32), 0.0),
            kernel_type=kernel,
            antialias=True,
        )
        return tf.cast(tf.clip_by_value(tf.floor(scaled + 0.5), 0, 255), tf.uint8)

    # One axis after the other, rounded in between, as in Pillow; which takes the height first where it finds
    # that cheaper, so that pixels can differ by one.
    return along(0, along(1, images))


def _decoded(number: tf.Tensor, encoded: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """One encoded image as uint8 (H, W, 3), at least of twice the size where it is larger than that."""
    import tensorflow as tf

    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG
    is_png = tf.strings.substr(encoded, 0, len(_PNG)) == _PNG
    known = tf.debugging.Assert(
        is_jpeg | is_png,
        [tf.strings.format("image {} of the batch is neither a JPEG nor a PNG", number)],
    )
    with tf.control_dependencies([known]):
        encoded = tf.identity(encoded)
    pixels = tf.cond(is_jpeg, lambda: _jpeg(encoded, size), lambda: _png(encoded))
    return tf.ensure_shape(pixels, [None, None, 3])


def _png(encoded: tf.Tensor) -> tf.Tensor:
    """Pixels of a PNG, white behind transparency."""
    import tensorflow as tf

    pixels = tf.cast(tf.io.decode_png(encoded, channels=4), tf.int32)
    color, alpha = pixels[..., :3], pixels[..., 3:]
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _jpeg(encoded: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Pixels of a JPEG, upright; shrunk by the decoder, which saves time, as far as Pillow does."""
    import tensorflow as tf

    def decode(ratio: int) -> tf.Tensor:
        # The accurate transform gives Pillow's pixels.
        return tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    whole = tf.io.extract_jpeg_shape(encoded)[:2]
    shrink = tf.reduce_min(whole // (2 * np.array(size, np.int32)))
    index = tf.reduce_sum(tf.cast(shrink >= _RATIOS[1:], tf.int32))
    pixels = tf.switch_case(index, [lambda ratio=ratio: decode(ratio) for ratio in _RATIOS])
    return _upright(pixels, _orientation(encoded))


def _upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror (H, W, 3) as EXIF says."""
    import tensorflow as tf

    def among(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(orientation == orientations)

    pixels = tf.cond(among(5, 6, 7, 8), lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    pixels = tf.cond(among(2, 3, 6, 7), lambda: pixels[:, ::-1], lambda: pixels)
    return tf.cond(among(3, 4, 7, 8), lambda: pixels[::-1], lambda: pixels)


def _orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation in the EXIF data of a JPEG: any other number than 2 to 8 means that it is upright.

    TensorFlow does not read EXIF data: a segment before the pixels, which holds "Exif", two zeros, and a TIFF
    header that says where a list of entries is, of 12 bytes each.
    """
    import tensorflow as tf

    head = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEAD), tf.uint8), tf.int32)
    last = tf.size(head) - 1

    def number(at: tf.Tensor, places: Any) -> tf.Tensor:
        """The numbers at some positions; a wrong position leads to bytes that are there."""
        where = at[..., None] + tf.range(tf.size(places))
        return tf.reduce_sum(tf.gather(head, tf.clip_by_value(where, 0, last)) * places, axis=-1)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.gather(head, tf.minimum(at + _EXIF_AT, last)) == list(_EXIF))

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        marker = number(at, _BIG)
        # Only what applications add, and comments, stands before it.
        return ((marker // 16 == 0xFFE) | (marker == 0xFFFE)) & (at < last) & ~is_exif(at)

    def next_segment(at: tf.Tensor) -> tuple[tf.Tensor]:
        return (at + 2 + number(at + 2, _BIG),)

    (at,) = tf.while_loop(goes_on, next_segment, (tf.constant(2),), maximum_iterations=_SEGMENTS)
    tiff = at + 10
    little = tf.gather(head, tf.minimum(tiff, last)) == ord("I")
    two, four = (tf.where(little, places[::-1], places) for places in (_BIG, _BIG_FOUR))
    entries = tiff + number(tiff + 4, four)
    count = tf.where(is_exif(at), tf.minimum(number(entries, two), _ENTRIES), 0)
    each = entries + 2 + 12 * tf.range(count)
    return tf.reduce_max(tf.where(number(each, two) == _ORIENTATION, number(each + 8, two), 1))
