"""TrainConfig: everything that decides a run, as one checked record that reads and writes YAML."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from keras_archs.choices import check_choice
from keras_archs.registry import list_models
from keras_archs.training.atomic import written_whole


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how. The defaults train ResNet-20 on the digits to about 99 %.

    Attributes:
        model: A name from `keras_archs.list_models()`.
        weights: None, published weights ("imagenet" or a tag), or a weights file of the same model and
            classes to start from.
        data: "digits" (8x8 handwritten digits that come with scikit-learn) or a folder of class sub-folders.
        image_size: Images are resized to image_size x image_size pixels, RGB.
        validation_share: Share of each class that picks the best epoch.
        test_share: Share of each class that is never seen in training; it gives the reported accuracy.
        skip_unreadable: Leave damaged images out and report them, instead of refusing to start.
        epochs: Passes over the training split.
        batch_size: Images a step, over all devices together.
        learning_rate: Peak of the schedule: a linear rise, then half a cosine down to zero.
        warmup_epochs: Length of the rise; less than `epochs`, fractions allowed. None: a tenth of `epochs`,
            at most one.
        momentum: Of SGD.
        weight_decay: Decoupled, as `keras.optimizers.SGD` does it (each step shrinks the weights by
            learning_rate * weight_decay); biases and normalization are left out.
        augment: Small shifts, rotations and zooms of the training images.
        flip: Mirror training images left to right at random, too; wrong for digits and text.
        seed: Fixes the split, the initial weights, the order and the augmentation.
    """

    model: str = "resnet20"
    weights: str | None = None
    data: str = "digits"
    image_size: int = 32
    validation_share: float = 0.1
    test_share: float = 0.25
    skip_unreadable: bool = False
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 0.05
    warmup_epochs: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value on its own and the few that depend on each other.

        Raises:
            ValueError: For the first value that is not accepted.
        """
        check_choice("model", self.model, list_models())
        _check_text("data", self.data)
        if self.weights is not None:
            _check_text("weights", self.weights)
        for name in ("image_size", "epochs", "batch_size"):
            _check_integer(name, getattr(self, name), minimum=1)
        _check_integer("seed", self.seed, minimum=0, maximum=2**32 - 1)
        for name in ("validation_share", "test_share"):
            _check_number(name, getattr(self, name), "a number between 0 and 1", lambda v: 0 < v < 1)
        if self.validation_share + self.test_share >= 1:
            raise ValueError(
                f"validation_share={self.validation_share} and test_share={self.test_share} leave nothing to "
                "train on; their sum must be below 1"
            )
        _check_number("learning_rate", self.learning_rate, "a number above 0", lambda v: v > 0)
        _check_number("momentum", self.momentum, "a number from 0 to below 1", lambda v: 0 <= v < 1)
        _check_number("weight_decay", self.weight_decay, "a number from 0", lambda v: v >= 0)
        if self.warmup_epochs is not None:
            accepted = f"a number from 0 to below epochs={self.epochs}"
            _check_number("warmup_epochs", self.warmup_epochs, accepted, lambda v: 0 <= v < self.epochs)
        for name in ("skip_unreadable", "augment", "flip"):
            _check_boolean(name, getattr(self, name))

    def to_yaml(self, path: str | Path) -> None:
        """Write all fields to a YAML file.

        Args:
            path: The file to write.
        """
        with written_whole(Path(path)) as beside:
            beside.write_text(yaml.safe_dump(asdict(self), sort_keys=False), encoding="utf-8")

    @classmethod
    def from_yaml(cls, path: str | Path) -> "TrainConfig":
        """Read a YAML file that names some or all fields; the others keep their defaults.

        Args:
            path: The file to read.

        Returns:
            The configuration.

        Raises:
            ValueError: If the file is not a YAML mapping, or names an unknown field or a bad value.
        """
        values = read_yaml(path)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Make a configuration of fields that were read from a file or a command line.

        Args:
            values: Some or all fields; the others keep their defaults.

        Returns:
            The configuration.

        Raises:
            ValueError: If a field is unknown or its value is not accepted.
        """
        numbers = {field.name: field.type in (float, float | None) for field in fields(cls)}
        for name in values:
            check_choice("field", name, numbers)
        return cls(**{name: _number(v) if numbers[name] else v for name, v in values.items()})


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Args:
        path: The file to read.

    Returns:
        Values by name.

    Raises:
        ValueError: If the file is not a YAML mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold lines like 'epochs: 12', not {values!r:.80}")
    return values


def _number(value: Any) -> Any:
    """A number that YAML took for text, as it does with 1e-3; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _check_text(name: str, value: Any) -> None:
    """Refuse anything but a non-empty string."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r} must be a non-empty string")


def _check_boolean(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be true or false")


def _check_integer(name: str, value: Any, minimum: int, maximum: float = math.inf) -> None:
    """Refuse anything but an integer in a range; True is no integer here."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        limit = "" if maximum == math.inf else f" and at most {maximum}"
        raise ValueError(f"{name}={value!r} must be an integer, at least {minimum}{limit}")


def _check_number(name: str, value: Any, accepted: str, holds: Callable[[float], bool]) -> None:
    """Refuse anything but a finite number for which `holds` is true."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not holds(value):
        raise ValueError(f"{name}={value!r} must be {accepted}")
