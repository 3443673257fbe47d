"""TrainConfig: everything that decides the weights a run ends with, as records that read and write YAML."""

import os
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from keras_archs.choices import check_choice, nearest
from keras_archs.registry import list_models
from keras_archs.training.atomic import written_whole
from keras_archs.training.fields import (
    above_zero,
    boolean,
    check_fields,
    declared,
    either,
    from_mapping,
    integer,
    number,
    one_of,
    optional,
    part,
    several,
    share,
    text,
)
from keras_archs.weights import find


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    name: str = declared("resnet20", text(), "A name of `keras-archs list`.")
    weights: str | None = declared(None, optional(text()), "Published weights, or a file, to start from.")
    convention: str | None = declared(
        None,
        optional(text()),
        "Lineage of the arithmetic (keras, torch, ...); null: the weights' or the name's.",
    )
    drop_rate: float = declared(0.0, share(), "Dropout in front of the classifier.")
    drop_path_rate: float = declared(0.0, share(), "Stochastic depth of the last block; it grows from 0.")
    zero_init_residual: bool = declared(
        False, boolean(), "The last normalization of each residual block starts at 0."
    )
    auxiliary_weight: float = declared(
        0.0, number(0), "Weight of the auxiliary classifiers' losses; 0 builds none."
    )


@dataclass(frozen=True)
class DataConfig:
    """The images."""

    source: str = declared(
        "digits", text(), "digits, shapes, a folder, a .csv list, TFRecord files (a/train-*), or tfds:NAME."
    )
    validation: str | None = declared(
        None, optional(text()), "Another source that picks the best epoch, instead of a share."
    )
    test: str | None = declared(None, optional(text()), "Another source that gives the reported accuracy.")
    image_size: int = declared(32, integer(1), "Side of a training image in pixels.")
    eval_size: int | None = declared(
        None, optional(integer(1)), "Side in evaluation and export; null: image_size."
    )
    crop_share: float = declared(
        1.0, part(), "In evaluation, side of the central crop as a share of the image's short side."
    )
    validation_share: float = declared(
        0.1,
        ("a number between 0 and 1", lambda v: share()[1](v) and v > 0),
        "Share of each class that picks the best epoch.",
    )
    test_share: float = declared(
        0.25, share(), "Share of each class kept for the reported accuracy; 0: the validation gives it."
    )
    max_corrupt_share: float = declared(
        0.0, share(), "Go on without damaged images up to this share of them."
    )
    balanced: bool = declared(False, boolean(), "Draw each class equally often, the rare ones repeatedly.")
    repeats: int = declared(1, integer(1), "Repeated augmentation: copies of an image in a batch.")


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to training images at random."""

    crop: str = declared("none", one_of(("none", "random_resized", "pad")), "How the image is cut out.")
    scale: tuple[float, float] = declared(
        (0.08, 1.0), several(part(), 2), "Of random_resized: share of the area, from and to."
    )
    ratio: tuple[float, float] = declared(
        (0.75, 4 / 3), several(above_zero(), 2), "Of random_resized: width by height, from and to."
    )
    padding: int = declared(4, integer(1), "Of pad: black pixels on each side before the cut.")
    similarity: bool = declared(True, boolean(), "Small shifts, rotations and zooms.")
    flip: bool = declared(False, boolean(), "Mirror left to right; wrong for digits and text.")
    jitter: float = declared(0.0, share(), "Changes of brightness, contrast and saturation.")
    policy: str = declared("none", one_of(("none", "rand", "trivial")), "RandAugment or TrivialAugment.")
    layers: int = declared(2, integer(1), "Of rand: operations an image.")
    magnitude: float = declared(9.0, number(0, 10), "Of rand: their strength.")
    magnitude_std: float = declared(0.0, number(0), "Of rand: the strength's deviation.")
    erasing: float = declared(0.0, number(0, 1), "Probability of random erasing.")
    mixup: float = declared(0.0, number(0), "Alpha of mixup; 0 switches it off.")
    cutmix: float = declared(0.0, number(0), "Alpha of cutmix; with mixup, each pair takes one of the two.")


@dataclass(frozen=True)
class LossConfig:
    """What is minimized."""

    name: str = declared(
        "cross_entropy", one_of(("cross_entropy", "binary_cross_entropy")), "The loss of each output."
    )
    label_smoothing: float = declared(0.0, share(), "Share of the target spread over all classes.")
    target_threshold: float | None = declared(
        None, optional(share()), "Of binary_cross_entropy: mixed targets above it count as 1, others as 0."
    )
    class_weights: str = declared(
        "none", one_of(("none", "balanced")), "balanced: a class weighs the more the rarer it is."
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights follow gradients."""

    name: str = declared("sgd", one_of(("sgd", "adamw", "lamb", "lars", "rmsprop")), "The method.")
    learning_rate: float = declared(0.05, above_zero(), "Peak of the schedule, for base_batch images a step.")
    base_batch: int | None = declared(
        None, optional(integer(1)), "Batch that learning_rate is meant for; null: whatever batch there is."
    )
    scaling: str = declared(
        "linear", one_of(("linear", "sqrt")), "How learning_rate follows batch_size / base_batch."
    )
    momentum: float = declared(0.9, share(), "Of sgd, lars and rmsprop.")
    nesterov: bool = declared(False, boolean(), "Of sgd.")
    beta_1: float = declared(0.9, share(), "Of adamw and lamb.")
    beta_2: float = declared(0.999, share(), "Of adamw and lamb.")
    rho: float = declared(0.9, share(), "Of rmsprop: memory of the squared gradients.")
    epsilon: float = declared(1e-6, above_zero(), "Of adamw, lamb and rmsprop.")
    weight_decay: float = declared(1e-4, number(0), "Strength of the decay.")
    decay: str = declared(
        "coupled",
        one_of(("coupled", "decoupled")),
        "coupled: part of the gradient (PyTorch's SGD, He 2015); decoupled: times the rate (AdamW). "
        "lamb and lars have it inside their trust ratio.",
    )
    decay_norms_and_biases: bool = declared(False, boolean(), "Whether vectors decay, too.")
    clip_norm: float | None = declared(
        None, optional(above_zero()), "Largest norm of all gradients together, after the sum over devices."
    )


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves."""

    name: str = declared(
        "cosine", one_of(("constant", "cosine", "step", "polynomial", "exponential")), "The curve."
    )
    warmup_epochs: float | None = declared(
        None, optional(number(0)), "Linear rise in front; null: a tenth of the epochs, at most one."
    )
    warmup_start: float = declared(0.0, number(0, 1), "Where the rise begins, as a share of the peak.")
    begin: str = declared(
        "warmup",
        one_of(("warmup", "start")),
        "Of cosine and polynomial: fall from the warm-up's end on (torchvision), or from step 0, the warm-up "
        "covering the first part (timm).",
    )
    end: float = declared(0.0, number(0, 1), "Where cosine and polynomial end, as a share of the peak.")
    milestones: tuple[float, ...] = declared((), several(above_zero()), "Of step: epochs of the drops.")
    factor: float = declared(0.1, share(), "Of step and exponential: what a drop multiplies by.")
    every_epochs: float = declared(2.0, above_zero(), "Of exponential: epochs between two drops.")
    power: float = declared(1.0, above_zero(), "Of polynomial.")


@dataclass(frozen=True)
class EmaConfig:
    """The exponential moving average of the weights; where there is one, it is evaluated and exported."""

    decay: float = declared(0.0, share(), "0 keeps none.")
    every: int = declared(1, integer(1), "Steps between two updates.")


@dataclass(frozen=True)
class FinetuneConfig:
    """How a trained network is taken over."""

    frozen_epochs: int = declared(0, integer(0), "Epochs in which only the classifier learns.")
    batch_norm: bool = declared(True, boolean(), "Whether batch normalization learns afterwards, too.")
    layer_decay: float = declared(
        1.0, part(), "Factor on the learning rate from each stage to the one below it."
    )


@dataclass(frozen=True)
class RunConfig:
    """How long, in which portions, and how exactly."""

    epochs: int = declared(12, integer(1), "Passes over the training images.")
    batch_size: int | str = declared(
        32,
        either(integer(1), one_of(("auto",))),
        "Images a step over all devices; auto: as few as are fast.",
    )
    micro_batches: int = declared(1, integer(1), "Portions of a device's batch, one after the other.")
    precision: str = declared(
        "float32", one_of(("float32", "bfloat16")), "Of activations; weights are float32."
    )
    sync_batch_norm: bool = declared(
        False, boolean(), "Normalize over the batch of all devices: slower, for small batches a device."
    )
    precise_batch_norm: int = declared(
        0, integer(0), "Images that batch normalization's statistics are computed anew from at the end."
    )
    resizing: tuple[tuple[float, int], ...] = declared(
        (),
        several(
            (
                "[share of the epochs, size]",
                lambda v: isinstance(v, tuple) and len(v) == 2 and share()[1](v[0]) and integer(1)[1](v[1]),
            )
        ),
        "Progressive resizing: from which share of the epochs on which image_size.",
    )
    early_stopping: int | None = declared(
        None, optional(integer(1)), "Stop after so many epochs without a better one."
    )
    checkpoint_steps: int | None = declared(
        None, optional(integer(1)), "Steps between checkpoints; null: one at the end of each epoch."
    )
    seed: int = declared(0, integer(0, 2**32 - 1), "Of split, weights, order, augmentation.")


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how. The defaults train ResNet-20 on the digits to about 99 %.

    Attributes:
        model: The network.
        data: The images.
        augment: What is done to them at random.
        loss: What is minimized.
        optimizer: How weights follow gradients.
        schedule: How the learning rate moves.
        ema: The average of the weights.
        finetune: How a trained network is taken over.
        run: How long, in which portions, how exactly.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Check every value on its own and the few that depend on each other.

        Raises:
            ValueError: For the first value that is not accepted.
        """
        if self.run.precision == "float16":
            raise ValueError(
                "run.precision='float16' is not accepted: it needs a scaled loss, and Keras scales it by the "
                "gradients of one replica; use 'bfloat16'"
            )
        for section in SECTIONS:
            check_fields(getattr(self, section), section)
        check_choice("model.name", self.model.name, list_models())
        data, run = self.data, self.run
        validation = 0 if data.validation else data.validation_share
        test = 0 if data.test or data.validation else data.test_share
        if validation + test >= 1:
            raise ValueError(
                f"data.validation_share={data.validation_share} and data.test_share={data.test_share} leave "
                "nothing to train on; their sum must be below 1"
            )
        if self.schedule.warmup_epochs is not None and self.schedule.warmup_epochs >= run.epochs:
            raise ValueError(
                f"schedule.warmup_epochs={self.schedule.warmup_epochs} must be below run.epochs={run.epochs}"
            )
        for name, (low, high) in {"scale": self.augment.scale, "ratio": self.augment.ratio}.items():
            if low > high:
                raise ValueError(f"augment.{name}=[{low}, {high}] must be the smaller one first")
        if list(self.schedule.milestones) != sorted(set(self.schedule.milestones)):
            raise ValueError(f"schedule.milestones={list(self.schedule.milestones)} must rise")
        if self.schedule.name == "step" and not self.schedule.milestones:
            raise ValueError("schedule.milestones=[] must name the epochs at which schedule.name=step drops")
        if self.finetune.frozen_epochs >= run.epochs:
            raise ValueError(
                f"finetune.frozen_epochs={self.finetune.frozen_epochs} must be below run.epochs={run.epochs}"
            )
        shares = [share for share, _ in run.resizing]
        if shares and (shares[0] != 0 or shares != sorted(set(shares))):
            raise ValueError(f"run.resizing={_plain(run.resizing)} must begin with share 0 and rise")
        if run.batch_size != "auto" and run.batch_size % data.repeats:
            raise ValueError(
                f"run.batch_size={run.batch_size} must be a multiple of data.repeats={data.repeats}"
            )

    @property
    def eval_size(self) -> int:
        """Side of an image in evaluation and export, in pixels."""
        return self.data.eval_size or self.data.image_size

    @property
    def batch_size(self) -> int:
        """Images a step over all devices.

        Raises:
            ValueError: If it is still to be found.
        """
        if not isinstance(self.run.batch_size, int):
            raise ValueError(
                f"run.batch_size={self.run.batch_size!r}: `find_batch_size` finds the number first, as "
                "`keras-archs train` does"
            )
        return self.run.batch_size

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All fields, as YAML and JSON can hold them.

        Returns:
            Values by section and name.
        """
        return _plain(asdict(self))

    def to_yaml(self, path: str | Path) -> None:
        """Write all fields to a YAML file.

        Args:
            path: The file to write.
        """
        with written_whole(Path(path)) as beside:
            beside.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False), encoding="utf-8")

    @classmethod
    def from_yaml(cls, path: str | Path) -> "TrainConfig":
        """Read a YAML file that names some or all fields, and perhaps a `recipe` to start from.

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
    def from_recipe(cls, name: str) -> "TrainConfig":
        """Take a recipe of `list_recipes()`.

        Args:
            name: Its name.

        Returns:
            The configuration.

        Raises:
            ValueError: If there is no such recipe.
        """
        return cls.from_dict({"recipe": name})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Make a configuration of fields that were read from a file or a command line.

        Args:
            values: Some or all fields by section, and perhaps a `recipe` that gives the others.

        Returns:
            The configuration.

        Raises:
            ValueError: If a section or field is unknown or a value is not accepted.
        """
        recipe = values.get("recipe")
        given = {name: value for name, value in values.items() if name != "recipe"}
        if recipe is not None:
            check_choice("recipe", recipe, list_recipes())
            given = merged(yaml.safe_load((_recipes() / f"{recipe}.yaml").read_text("utf-8")), given)
        for name in given:
            if name not in SECTIONS:
                raise ValueError(f"{name} is no section.{_suggestion(name)} Sections: {', '.join(SECTIONS)}.")
        return cls(**{name: from_mapping(SECTIONS[name], given[name], name, _suggestion) for name in given})

    def located(self) -> "TrainConfig":
        """Make paths independent of the folder that the command is run in, and of the user.

        Returns:
            The same configuration with absolute paths.
        """
        sources = {f"data.{name}": getattr(self.data, name) for name in ("source", "validation", "test")}
        paths = {name: value for name, value in sources.items() if value and _is_path(value)}
        weights = self.model.weights
        if weights and _is_file(weights) and find(self.model.name, weights) is None:
            paths["model.weights"] = weights
        absolute = {name: Path(os.path.expanduser(path)).absolute() for name, path in paths.items()}
        return self.replaced({name: str(path) for name, path in absolute.items()})

    def replaced(self, values: dict[str, Any]) -> "TrainConfig":
        """Change some fields.

        Args:
            values: New values by dotted name, e.g. {"run.epochs": 3}.

        Returns:
            Another configuration.

        Raises:
            ValueError: If a name is unknown or a value is not accepted.
        """
        return TrainConfig.from_dict(merged(self.to_dict(), nested(values)))


SECTIONS: dict[str, type] = {f.name: f.default_factory for f in fields(TrainConfig)}  # type: ignore[misc]


def list_recipes() -> list[str]:
    """Name the recipes.

    Returns:
        Names that `TrainConfig.from_recipe` takes.
    """
    return sorted(path.name.removesuffix(".yaml") for path in _recipes().iterdir() if path.name[0] != "_")


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """{"run.epochs": 3} as {"run": {"epochs": 3}}.

    Args:
        values: Values by dotted name.

    Returns:
        Values by section and name.

    Raises:
        ValueError: If a name has no section, or no field; those that it may mean are named.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        section, dot, rest = name.partition(".")
        if name in SECTIONS:
            own = ", ".join(f.name for f in fields(SECTIONS[name]))
            raise ValueError(f"{name} is a section: write {name}.FIELD. Its fields are {own}.")
        if not dot:
            raise ValueError(f"{name}: write SECTION.FIELD.{_suggestion(name)}")
        found.setdefault(section, {})[rest] = value
    return found


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay sections over sections.

    Args:
        base: Values by section and name.
        changes: Those that differ.

    Returns:
        Both; where both have a value, that of `changes`.
    """
    both = {k: {**base[k], **v} for k, v in changes.items() if isinstance(v, dict) and k in base}
    return base | changes | both


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Compare two configurations.

    Args:
        old: One.
        new: The other.

    Returns:
        (old value, new value) by dotted name, where they differ.
    """
    before, after = old.to_dict(), new.to_dict()
    return {
        f"{section}.{name}": (value, after[section][name])
        for section, values in before.items()
        for name, value in values.items()
        if value != after[section][name]
    }


def _suggestion(name: str) -> str:
    """Where a name without its section, in a wrong one, or with a typo, probably belongs."""
    dotted = [f"{section}.{f.name}" for section in SECTIONS for f in fields(SECTIONS[section])]
    same = [other for other in dotted if other.partition(".")[2] == name.rpartition(".")[2]]
    return f" Did you mean {' or '.join(map(repr, same))}?" if same else nearest(name, [*SECTIONS, *dotted])


def _is_path(source: str) -> bool:
    """Whether a source is on the disk under its own name."""
    return source != "digits" and source.partition(":")[0] not in ("shapes", "tfds")


def _is_file(weights: str) -> bool:
    """Whether there are such weights on the disk; those of slim are several files."""
    path = os.path.expanduser(weights)
    return os.path.isfile(path) or os.path.isfile(f"{path}.index")


def _recipes() -> Any:
    return resources.files("keras_archs.training") / "recipes"


def _plain(value: Any) -> Any:
    """Tuples as lists, at any depth."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


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
        raise ValueError(f"{path} must hold lines like 'run: {{epochs: 12}}', not {values!r:.80}")
    return values
