"""What int8 costs in accuracy, and what each range method and each correction buys.

    python benchmarks/int8_accuracy.py [--keep FOLDER] [--planted xception] [--json FILE]

A ResNet, an Inception and an Xception are trained on scikit-learn's digits and on drawn shapes, and converted
with every range method, with every correction, and by TensorFlow's own converter. All are measured on images
that neither training nor calibration saw. Target: int8 loses at most 0.3 points.

Then outliers are planted into one whose batch norms have a scale (an Inception's have none): an eighth of
their channels becomes 16 times as large, the next layer divides them again. In float the network stays what
it was; in int8, with one scale for all channels, the others lose four of their eight bits.
"""

import argparse
import functools
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np

import converters
from converters.calibration import METHODS, Method
from converters.flatbuffer import with_logits
from converters.keras_model import model_end
from converters.runners import TFLiteRunner
from keras_archs.assemble import constructor
from keras_archs.blocks import Fork, Step, Unit
from keras_archs.conventions import KERAS_INCEPTION, KERAS_XCEPTION
from keras_archs.inception import REDUCE, V3_MODULES, InceptionSpec, inception_body
from keras_archs.training import TrainConfig, load_data, train
from keras_archs.xception import Row, XceptionSpec, xception_body

TARGET_POINTS, SIZE, CALIBRATION, FACTOR, SHARE = 0.3, 24, 256, 16, 0.125
CORRECTIONS = ((), ("equalization",), ("bias_correction",), ("equalization", "bias_correction"))
# Half of the digits are for the test: with fewer of them one image is worth too many points.
DATA: dict[str, dict[str, Any]] = {
    "digits": {"data.source": "digits", "data.test_share": 0.5, "run.epochs": 24},
    "shapes": {"data.source": "shapes:5000", "data.test": "shapes:3000"},
}
NETWORKS = {"resnet": "resnet20", "inception": "small_inception", "xception": "small_xception"}
EPOCHS_OF_SHAPES = {"resnet": 8, "inception": 24, "xception": 8}


def narrow(step: Step) -> Step:
    """The step with a quarter of its filters."""
    if isinstance(step, Fork):
        return replace(step, branches=tuple(tuple(map(narrow, branch)) for branch in step.branches))
    return replace(step, filters=step.filters // 4) if isinstance(step, Unit) else step


# The lineages' momentum of batch norm is for long runs; these have some hundred steps.
_inception = InceptionSpec(
    source="some modules of InceptionV3, a quarter as wide, for small images",
    stem=(("conv1", Unit(16)), ("conv2", Unit(32)), ("pool1", REDUCE)),
    modules=tuple(tuple(tuple(map(narrow, b)) for b in V3_MODULES[i]) for i in (0, 1, 3, 4, 7, 8, 9)),
    convention=replace(KERAS_INCEPTION, momentum=0.9),
    min_size=SIZE,
)
_entry = (Row(2, (48, 48), 2, False), Row(3, (96, 96), 2))
_xception = XceptionSpec(
    source="Xception with fewer and narrower blocks, for small images",
    stem=(Unit(16), Unit(32)),
    blocks=(*_entry, Row(4, (96, 96, 96)), Row(5, (96, 96, 96)), Row(6, (96, 128), 2)),
    exit=(160, 192),
    convention=replace(KERAS_XCEPTION, momentum=0.9),
    min_size=SIZE,
)
constructor("SmallInception", "small_inception", _inception, inception_body)
constructor("SmallXception", "small_xception", _xception, xception_body)


@dataclass(frozen=True)
class Measured:
    """One int8 model on the test images.

    Attributes:
        network: Key of NETWORKS, perhaps with "planted" before it, and key of DATA.
        ranges: Range method, or "stock" for TensorFlow's converter.
        corrections: "none", or their names joined by " + ".
        float_accuracy: Of the Keras model, in percent.
        accuracy: Of the int8 model, in percent.
        agreement: How often both say the same class, in percent.
        sqnr_db: Of the logits.
    """

    network: str
    ranges: str
    corrections: str
    float_accuracy: float
    accuracy: float
    agreement: float
    sqnr_db: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} / {self.agreement:.2f} / {self.sqnr_db:.1f}"

    @property
    def points(self) -> float:
        """What int8 adds to the accuracy, in percentage points."""
        return self.accuracy - self.float_accuracy

    @property
    def conversion(self) -> str:
        """Ranges and corrections."""
        return self.ranges if self.corrections == "none" else f"{self.ranges} + {self.corrections}"

    @property
    def before(self) -> str:
        """The network and what it does in float."""
        return f"{self.network} ({self.float_accuracy:.2f} %)"


@dataclass(frozen=True)
class Case:
    """A trained network and its images, preprocessed: (N, H, W, C) to calibrate with, and to test."""

    network: str
    model: keras.Model
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray

    @functools.cached_property
    def logits(self) -> np.ndarray:
        """What the float model says to the test images, (N, classes)."""
        end = model_end(self.model)
        parts = np.array_split(self.images, max(1, len(self.images) // 256))
        return np.concatenate([keras.ops.convert_to_numpy(end.logits(part)) for part in parts])

    def measure(self, ranges: str, corrections: Sequence[str], logits: np.ndarray) -> Measured:
        """Compare an int8 model's logits (N, classes) with these."""
        classes, expected = logits.argmax(1), self.logits.argmax(1)
        one = Measured(
            network=self.network,
            ranges=ranges,
            corrections=" + ".join(corrections).replace("_", " ") or "none",
            float_accuracy=100 * float(np.mean(expected == self.labels)),
            accuracy=100 * float(np.mean(classes == self.labels)),
            agreement=100 * float(np.mean(classes == expected)),
            sqnr_db=float(10 * np.log10(np.sum(self.logits**2) / np.sum((self.logits - logits) ** 2))),
        )
        print(f"{one.before:<36}{one.conversion:<56}{one}", flush=True)
        return one

    def convert(self, ranges: Method, corrections: tuple[str, ...]) -> Measured:
        """Convert by this package, and measure."""
        convert = functools.partial(converters.convert, self.model, representative_data=self.calibration)
        logits = convert(ranges=ranges, corrections=corrections, progress=False).logits(self.images)
        return self.measure(ranges, corrections, logits)

    def convert_plainly(self) -> Measured:
        """Convert as the TensorFlow documentation says, and measure."""
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_keras_model(self.model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in self.calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        content = with_logits(converter.convert())
        assert content is not None  # They all end in a softmax.
        return self.measure("stock", (), TFLiteRunner(content, num_threads=1).run(self.images)[0])

    def all_ways(self, ways: Iterable[tuple[Method, tuple[str, ...]]]) -> list[Measured]:
        """Convert plainly, then with each (ranges, corrections)."""
        return [self.convert_plainly(), *(self.convert(*way) for way in ways)]


def trained(network: str, data: str, folder: Path) -> Case:
    """Train a network, or take it from the folder, where an earlier call left it."""
    chosen = {"model.name": NETWORKS[network], "data.image_size": SIZE, **DATA[data]}
    config = TrainConfig().replaced({"run.epochs": EPOCHS_OF_SHAPES[network], **chosen})
    model = train(config, folder / f"{network}-{data}").load_model()
    splits = load_data(config, progress=False)
    calibration, test = splits.images("train", CALIBRATION), splits.images("test")
    return Case(f"{network}, {data}", model, calibration, test, splits.labels("test"))


def planted(case: Case) -> Case:
    """The same network with outlier channels wherever a batch norm has one reader that can divide again."""
    model = keras.models.clone_model(case.model)
    model.set_weights(case.model.get_weights())
    random = np.random.default_rng(0)
    for norm, reader in _pairs(model):
        factors = np.where(random.random(norm.beta.shape[0]) < SHARE, FACTOR, 1).astype(np.float32)
        norm.gamma.assign(norm.gamma * factors)
        norm.beta.assign(norm.beta * factors)
        # (height, width, channels, filters or multiplier) in both kinds.
        kernel = reader.depthwise_kernel if hasattr(reader, "depthwise_kernel") else reader.kernel
        kernel.assign(kernel / factors[:, np.newaxis])
    changed = replace(case, network=f"planted {case.network}", model=model)
    if not np.allclose(changed.logits, case.logits, rtol=0, atol=1e-5 * np.ptp(case.logits)):
        raise RuntimeError(f"planting changed what {case.network!r} computes")
    return changed


def _pairs(model: keras.Model) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """Batch norms with a scale, and the convolution that alone reads each, perhaps through a ReLU."""
    readers = defaultdict(list)
    for layer in model.layers:
        for tensor in keras.tree.flatten(layer.input):
            readers[id(tensor)].append(layer)
    for norm in model.layers:
        if isinstance(norm, keras.layers.BatchNormalization) and norm.scale:
            found = readers[id(norm.output)]
            if len(found) == 1 and isinstance(found[0], keras.layers.Activation):
                found = readers[id(found[0].output)]
            if len(found) == 1 and isinstance(found[0], (keras.layers.Conv2D, keras.layers.SeparableConv2D)):
                yield norm, found[0]


def show(measured: Sequence[Measured], down: str, across: str) -> None:
    """Print a Markdown table; `down` and `across` are the attributes that give its rows and columns."""
    cells = {(getattr(one, down), getattr(one, across)): str(one) for one in measured}
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    lines = [["", *columns], *([row, *(cells.get((row, column), "") for column in columns)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    print("\nPoints of accuracy that int8 adds / agreement with float in % / SQNR of the logits in dB\n")
    for line in lines:
        print(f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |")


def main() -> None:
    """Print the tables; fail when a network with the default ranges misses the target."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planted", choices=("resnet", "xception"), default="resnet", help="gets outliers")
    parser.add_argument("--keep", type=Path, default="runs/int8_accuracy", help="folder of trained networks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all that was measured")
    options = parser.parse_args()
    cases = [trained(*names, options.keep) for names in product(NETWORKS, DATA)]
    alone = [way for way in product(METHODS, CORRECTIONS) if "minmax" in way or () in way]
    ordinary = [one for case in cases for one in case.all_ways(alone)]
    changed = planted(next(case for case in cases if case.network.startswith(options.planted)))
    outliers = changed.all_ways(product(METHODS, CORRECTIONS))
    show(ordinary, "conversion", "before")
    show(outliers, "ranges", "corrections")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in ordinary + outliers], indent=2) + "\n")
    if missed := [m.network for m in ordinary if m.conversion == "minmax" and m.points < -TARGET_POINTS]:
        sys.exit(f"more than {TARGET_POINTS} points lost: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
