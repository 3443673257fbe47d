"""evaluate_model: what a model gets right and wrong on one split, image by image and class by class."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_archs.training.data import DataSplits
from keras_archs.training.progress import tracked
from keras_archs.training.reading import Images

BATCH = 64  # images in a batch of `DataSplits.dataset`: only the bar's length depends on it
SMALLEST = 1e-7  # a probability of 0 counts as this one, so that one image cannot make the loss infinite
TOLERANCE = 0.02  # probabilities sum to 1 up to this: bfloat16 has eight bits
DEVIATIONS = 1.959964  # of a normal distribution, on both sides: 95 % lie within


@dataclass(frozen=True)
class ClassScore:
    """How a model does on one class; None where nothing can be divided by.

    Attributes:
        name: Of the class.
        images: How many there are.
        correct: How many of them are recognized.
        precision: Share that is right of what is taken for this class.
        recall: Share of this class that is recognized.
        f1: Harmonic mean of the two.
    """

    name: str
    images: int
    correct: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Mistake:
    """An image that is taken for another class.

    Attributes:
        index: Its number in the split.
        name: Where it is.
        true: The name of its class.
        predicted: The name of the most probable class.
        probability: Of that class, says the model.
    """

    index: int
    name: str
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Confusion:
    """How often images of one class are taken for another.

    Attributes:
        true: The name of their class.
        predicted: The name of the other one.
        images: How many there are.
    """

    true: str
    predicted: str
    images: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model gets right and wrong on one split.

    Attributes:
        split: "train", "validation" or "test".
        class_names: Names by class number.
        matrix: Counts, shape (classes, classes): a row is a true class, a column a predicted one.
        loss: Mean cross-entropy.
        top5: Share of images whose class is among the five most probable; None with five classes or fewer.
        mistakes: All images that are taken for another class, the most confident mistake first.
    """

    split: str
    class_names: tuple[str, ...]
    matrix: np.ndarray
    loss: float
    top5: float | None
    mistakes: tuple[Mistake, ...]

    @property
    def images(self) -> int:
        """How many images there are."""
        return int(self.matrix.sum())

    @property
    def correct(self) -> int:
        """How many of them are recognized."""
        return int(np.trace(self.matrix))

    @property
    def accuracy(self) -> float:
        """Their share."""
        return self.correct / self.images

    def accuracy_interval(self) -> tuple[float, float]:
        """Where the accuracy on any number of such images lies, with 95 % confidence (Wilson 1927).

        Returns:
            Lower and upper end.
        """
        return wilson_interval(self.correct, self.images)

    def per_class(self) -> list[ClassScore]:
        """Look at each class on its own.

        Returns:
            A row a class, by class number.
        """
        images, taken = self.matrix.sum(axis=1).tolist(), self.matrix.sum(axis=0).tolist()
        rows = zip(self.class_names, images, taken, np.diagonal(self.matrix).tolist(), strict=True)
        return [
            ClassScore(name, n, right, _share(right, m), _share(right, n), _share(2 * right, n + m))
            for name, n, m, right in rows
        ]

    def confusions(self, n: int | None = None) -> list[Confusion]:
        """Count which class is taken for which other one.

        Args:
            n: How many pairs; None means all that occur.

        Returns:
            Pairs, the most frequent first, then by class number.
        """
        rows, columns = np.nonzero(self.matrix * ~np.eye(len(self.class_names), dtype=bool))
        counts = self.matrix[rows, columns]
        return [
            Confusion(self.class_names[rows[i]], self.class_names[columns[i]], int(counts[i]))
            for i in np.argsort(-counts, kind="stable")[:n]
        ]

    def worst(self, n: int) -> tuple[Mistake, ...]:
        """Find where the model is sure and wrong: often a wrong label, or an image that belongs nowhere.

        Args:
            n: How many images at most.

        Returns:
            The most confident mistakes, the most confident first.
        """
        return self.mistakes[:n]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the list of all mistakes, as JSON holds it.

        Returns:
            Values by name. The matrix is there as its diagonal, in `classes`, and its other counts, in
            `confusions`: with a thousand classes most of it is zeros.
        """
        return {
            "split": self.split,
            "images": self.images,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval()),
            "top5": self.top5,
            "loss": self.loss,
            "classes": [asdict(row) for row in self.per_class()],
            "confusions": [asdict(row) for row in self.confusions()],
            "worst": [asdict(row) for row in self.worst(20)],
        }


def evaluate_model(
    model: keras.Model, data: DataSplits, split: str = "test", progress: bool | None = None
) -> Evaluation:
    """Measure a model on all images of a split, on any backend.

    Args:
        model: It gives probabilities (N, classes).
        data: The splits.
        split: "train", "validation" or "test".
        progress: True, False, or None for "only on a terminal".

    Returns:
        What it gets right and wrong.

    Raises:
        ValueError: If the model's outputs are not the probabilities of the data's classes.
    """
    source = data.split(split)
    batches = tracked(data.dataset(split), -(-len(source) // BATCH), f"evaluating {split}", progress)
    # Not `predict`: tracing a graph for one pass is slower, and TensorFlow warns of it in a fifth run.
    measured = [
        _measured(model(np.asarray(images), training=False), np.asarray(labels), data.class_names)
        for images, labels in batches
    ]
    labels, predicted, confidence, likelihood, rank = map(np.concatenate, zip(*measured, strict=True))
    classes = len(data.class_names)
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return Evaluation(
        split=split,
        class_names=tuple(data.class_names),
        matrix=matrix,
        loss=float(-np.log(likelihood.clip(SMALLEST, 1), dtype=np.float64).mean()),
        top5=float((rank < 5).mean()) if classes > 5 else None,
        mistakes=_mistakes(source.images, data.class_names, labels, predicted, confidence),
    )


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """Say how exactly so many images tell a share: the 95 % score interval of Wilson (1927).

    Args:
        correct: How many of the images.
        images: All of them, at least one.

    Returns:
        Lower and upper end; they stay between 0 and 1, even where all or none are correct.
    """
    share, extra = correct / images, DEVIATIONS**2 / images
    middle = (share + extra / 2) / (1 + extra)
    half = DEVIATIONS / (1 + extra) * ((share * (1 - share) + extra / 4) / images) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _measured(outputs: Any, labels: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Of each image: label, most probable class, its probability, that of the true class and its rank."""
    probabilities = np.asarray(keras.ops.convert_to_numpy(outputs)).astype(np.float32)
    if probabilities.shape != (len(labels), len(class_names)):
        raise ValueError(
            f"model gives outputs of shape {probabilities.shape} for {len(labels)} images; the data has "
            f"{len(class_names)} classes, which needs ({len(labels)}, {len(class_names)})"
        )
    # Written so that NaN is refused, too.
    if not (np.all(probabilities >= 0) and np.allclose(probabilities.sum(axis=1), 1, atol=TOLERANCE)):
        sums = probabilities.sum(axis=1)
        raise ValueError(
            f"model must give probabilities, which sum to 1; its outputs sum to {sums.min():.4g} to "
            f"{sums.max():.4g}, the smallest is {probabilities.min():.4g}. Its classifier may "
            "lack the softmax, or its training has diverged"
        )
    rows, predicted = np.arange(len(labels)), probabilities.argmax(axis=1)
    likelihood = probabilities[rows, labels]
    rank = (probabilities > likelihood[:, None]).sum(axis=1)
    return labels, predicted, probabilities[rows, predicted], likelihood, rank


def _mistakes(
    images: Images,
    class_names: Sequence[str],
    labels: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
) -> tuple[Mistake, ...]:
    """All images whose most probable class is not theirs, the most confident first."""
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")].tolist()
    names = images.names(wrong)
    return tuple(
        Mistake(i, name, class_names[labels[i]], class_names[predicted[i]], float(confidence[i]))
        for i, name in zip(wrong, names, strict=True)
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
