"""Every check of a constructor's arguments, written once: a value is checked before anything is built."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras

from keras_archs.choices import check_choice, nearest
from keras_archs.conventions import Convention
from keras_archs.layers import channel_axis
from keras_archs.modes import MODES
from keras_archs.weights import Source

if TYPE_CHECKING:
    from keras_archs.assemble import Spec

Tensor = Any
Activation = str | Callable[[Tensor], Tensor] | None
Shape = tuple[int | None, ...]
POOLINGS = (None, "avg", "max")


def check_flags(**flags: Any) -> None:
    """Raises ValueError if one of the named flags is neither True nor False."""
    for name, value in flags.items():
        check_choice(name, value, (True, False))


def check_top(
    key: str, spec: "Spec", include_top: bool, features_only: bool, aux_heads: bool, pooling: str | None
) -> None:
    """Raises ValueError if what ends the model is contradictory or does not exist."""
    check_choice("pooling", pooling, POOLINGS)
    if features_only and pooling is not None:
        raise ValueError(
            f"pooling={pooling!r} does not go with features_only=True, which gives feature maps."
        )
    if aux_heads and not spec.auxiliary:
        raise ValueError(f"aux_heads=True is not possible for {key}, which has no auxiliary classifiers.")
    if aux_heads and not (include_top and not features_only):
        raise ValueError("aux_heads=True needs include_top=True, and not features_only=True.")


def chosen(
    key: str,
    spec: "Spec",
    convention: Convention,
    output_stride: int,
    drop_path_rate: float,
    zero_init_residual: bool,
) -> "Spec":
    """The row with the user's choices in it.

    Args:
        key: Name of the model.
        spec: The row.
        convention: That of the weights.
        output_stride: One of the row's `output_strides`.
        drop_path_rate: In [0, 1).
        zero_init_residual: Whether the last scale of a residual function starts at zero.

    Returns:
        A new row.

    Raises:
        ValueError: If the row can't do what is asked.
    """
    if output_stride not in spec.output_strides or isinstance(output_stride, bool):
        accepted = ", ".join(map(str, spec.output_strides))
        raise ValueError(f"output_stride={output_stride!r} is not possible for {key}; accepted: {accepted}.")
    check_rate("drop_path_rate", drop_path_rate)
    for name, value in (("drop_path_rate", drop_path_rate), ("zero_init_residual", zero_init_residual)):
        if value and not spec.residual:
            raise ValueError(f"{name}={value!r} is not possible for {key}, which has no residual blocks.")
    return replace(
        spec,
        convention=replace(convention, zero_last=zero_init_residual),
        output_stride=output_stride,
        drop_path_rate=float(drop_path_rate),
    )


def check_rate(name: str, value: Any) -> None:
    """Raises ValueError if a share is not a number of [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r} must be a number from 0 to below 1.")


def positive(value: Any) -> int:
    """A positive integer, of Python's or of numpy's; 0 for anything else."""
    return operator.index(value) if hasattr(value, "__index__") and value is not True and value > 0 else 0


def checked_classes(classes: Any) -> int:
    """The number of classes; ValueError unless it is a positive integer."""
    if not positive(classes):
        raise ValueError(f"classes={classes!r} must be a positive integer.")
    return positive(classes)


def dropped_classes(
    classes: int, spec: "Spec", source: Source, include_top: bool, aux_heads: bool
) -> int | None:
    """Which classifier of the weights is not loaded, because other classes are wanted.

    Args:
        classes: Wanted.
        spec: The row; a local file with its default number of classes is taken for published weights.
        source: Where the weights come from.
        include_top: Whether there is a classifier at all.
        aux_heads: Whether further classifiers follow.

    Returns:
        Its number of classes; None if the classifier has to fit.

    Raises:
        ValueError: If published weights have other classes and nobody asked for a new classifier, or if they
            have no further classifiers.
    """
    if source.random or not include_top:
        return None
    entry = source.entry
    if entry and aux_heads and entry.source == "keras":
        raise ValueError(f"aux_heads=True does not go with weights={entry.name!r}, which have none.")
    if entry and classes == spec.classes != entry.classes:
        raise ValueError(
            f"classes={classes} does not fit weights={entry.name!r}, which have {entry.classes}. Give "
            f"classes={entry.classes}, or include_top=False and your own classifier."
        )
    published = entry.classes if entry else spec.classes
    return published if published != classes else None


def checked_activation(activation: Activation, include_top: bool, pretrained: bool) -> Activation:
    """The classifier's activation; ValueError if it is none, or if pretrained scores are not made for it."""
    if not include_top:
        return None
    try:
        function = keras.activations.get(activation)
    except ValueError:
        no_names = ("get", "serialize", "deserialize")
        known = [n for n in dir(keras.activations) if n[0] != "_" and n not in no_names]
        raise ValueError(
            f"classifier_activation={activation!r} is not an activation.{nearest(activation, known)}"
        ) from None
    if pretrained and function not in (keras.activations.softmax, keras.activations.linear):
        raise ValueError(
            f"classifier_activation={activation!r} does not fit pretrained weights: only 'softmax' or None."
        )
    return activation


def checked_regularizer(regularizer: Any) -> Any:
    """A Keras regularizer or None; ValueError for anything else."""
    try:
        found = keras.regularizers.get(regularizer)
    except (ValueError, TypeError):
        found = ""
    if found is not None and not callable(found):
        raise ValueError(
            f"kernel_regularizer={regularizer!r} is not a regularizer.{nearest(regularizer, ['l1', 'l2'])} "
            "Accepted: None, 'l1', 'l2', keras.regularizers.L2(1e-4) and the like."
        )
    return found


def checked_indices(out_indices: Sequence[int] | None, features_only: bool, count: int) -> list[int]:
    """Which features, as positions; ValueError unless each is one of the `count` features, -1 the last."""
    if out_indices is None:
        return list(range(count))
    if not features_only:
        raise ValueError(f"out_indices={out_indices!r} needs features_only=True.")
    if not isinstance(out_indices, Sequence) or isinstance(out_indices, str) or not out_indices:
        raise ValueError(f"out_indices={out_indices!r} must be a list of integers.")
    for index in out_indices:
        if not hasattr(index, "__index__") or isinstance(index, bool) or not -count <= index < count:
            raise ValueError(
                f"out_indices={out_indices!r}: {index!r} is out of range {-count} to {count - 1}."
            )
    positions = [operator.index(index) % count for index in out_indices]
    if len(set(positions)) != len(positions):
        raise ValueError(f"out_indices={out_indices!r} names a feature twice.")
    return positions


def checked_shape(
    input_tensor: Tensor,
    input_shape: Shape | None,
    spec: "Spec",
    min_size: int,
    include_top: bool,
    flattens: bool,
) -> Shape:
    """The shape of one image, in the order of Keras' data format.

    Args:
        input_tensor: What the user gave, None for a new input.
        input_shape: What the user gave.
        spec: The row.
        min_size: Smallest height and width that leave features.
        include_top: Whether a classifier ends the model.
        flattens: Whether a classifier needs to know the size.

    Returns:
        (H, W, C), or (C, H, W) for channels_first; None where open.

    Raises:
        ValueError: If it is no shape, too small, or open where the classifier needs it.
    """
    channels_last = channel_axis() == 3
    what, shape = "input_shape", input_shape
    if input_tensor is not None:
        what, shape = "shape of input_tensor", _shape_of(input_tensor, input_shape)
    elif input_shape is None:
        side = spec.size if include_top else None
        shape = (side, side, 3) if channels_last else (3, side, side)

    layout = "(height, width, channels)" if channels_last else "(channels, height, width)"
    if not isinstance(shape, tuple | list) or len(shape) != 3 or 0 in map(_positive_or_open, shape):
        raise ValueError(f"{what}={shape!r} must be {layout}, three positive integers.")
    shape = tuple(map(_positive_or_open, shape))
    *sides, channels = shape if channels_last else (*shape[1:], shape[0])
    if channels is None:
        raise ValueError(f"{what}={shape} must say how many channels: {layout}.")
    if any(n is not None and n < min_size for n in sides):
        raise ValueError(f"{what}={shape} is too small: height and width must be at least {min_size}.")
    if include_top and flattens and None in sides:
        raise ValueError(f"{what}={shape} must say height and width: the classifier flattens features.")
    return shape


def check_fit(
    shape: Shape, spec: "Spec", source: Source, include_top: bool, include_preprocessing: bool
) -> None:
    """Raises ValueError if images of a shape do not fit the published weights, or their preprocessing."""
    *sides, channels = shape if channel_axis() == 3 else (*shape[1:], shape[0])
    low = spec.size // 32 * 32
    if (
        source.entry
        and include_top
        and spec.flattens
        and any(n is None or n // 32 != low // 32 for n in sides)
    ):
        raise ValueError(
            f"input_shape={shape} does not fit published weights: their classifier flattens features, height "
            f"and width must be {low} to {low + 31}. Use include_top=False for other sizes."
        )
    mode = source.preprocessing
    wanted = len(MODES[mode].mean)
    if include_preprocessing and wanted not in (1, channels):
        raise ValueError(
            f"include_preprocessing=True needs {wanted} channels for mode {mode!r}, not {channels}."
        )


def _positive_or_open(size: Any) -> int | None:
    return None if size is None else positive(size)


def _shape_of(input_tensor: Tensor, input_shape: Shape | None) -> Shape:
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"input_tensor of type {type(input_tensor).__name__} must be a Keras tensor, "
            "e.g. keras.Input((224, 224, 3))."
        )
    shape = tuple(input_tensor.shape[1:])
    if input_shape is not None:
        pairs = zip(shape, input_shape, strict=False)
        if len(shape) != len(input_shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise ValueError(f"input_shape={input_shape} disagrees with the shape {shape} of input_tensor.")
    return shape
