"""Latency of our TFLite artifacts against the stock converter's, of the same network on the same CPU.

    python benchmarks/export_latency.py [--models NAME ...] [--group table] [--clients] [--json FILE]

Files are converted first, in processes that have ended before the clock starts; `--keep FOLDER` keeps them
for the next run: ours are made anew when the converters have changed, stock ones are not, so remove the
folder after changing a network. Then a fresh process that imports no TensorFlow loads both files and lets
them take turns, two invokes each, of which the second counts. A ratio is the median of the ratios of all
turns: what slows the host down for seconds slows both files of a turn down. Beside it stands the ratio of the
fastest. Networks have random weights, and batch-norm statistics that a trained one could have.

A host whose other guests are busy can be twice as slow for minutes, and more so for one kind of kernel than
for another. `--rounds N` times again, later, what was disturbed; for each number of threads that round counts
in which both files together were fastest, whatever their ratio was, and the JSON has the ratios of all.

`--clients` times our int8 file in the same way against OpenVINO, which runs the stock int8 file, and ONNX
Runtime, which runs its own static quantization of the stock float32 file.

Targets: see TABLE; logits at most 0.3 dB noisier than those of the stock int8 file, and in float32 within
1e-5 of their range. Fails when one is missed. By how many steps the logits differ without the delegate is
told where it is more than one: in deep networks XNNPACK's rounding of ties adds up, in stock files, too.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CALIBRATION, WARM_UPS = 8, 3
# That many outputs: with 80 of them, the SQNRs of two files that are equally good differ by 1 dB.
LEAST_IMAGES, LEAST_LOGITS = 8, 8000
# OpenVINO's threads go on looking for work for a millisecond; nobody else should pay for it.
PAUSE_S = 0.002
LEAST_SECONDS, MOST_RUNS = 2.0, 1000
MOST_DB_LOST, MOST_FLOAT_ERROR = 0.3, 1e-5
COMPARED = 3  # images, with and without the delegate: TFLite's own kernels are slow
EQUAL = 1.02  # as fast as stock, but for the noise of the clock
QUIET = (
    1.25  # the percentile 90 of the times over the percentile 10, at most, of a file that nobody disturbed
)


@dataclass(frozen=True)
class Model:
    """A network to time.

    Attributes:
        name: In `keras_archs.list_models`, or in `keras.applications` with "keras." before it.
        target: Our int8 latency over the stock converter's, at most.
    """

    name: str
    target: float = EQUAL


TABLE = (
    Model("inception_v3", 0.65),
    Model("xception", 0.70),
    Model("inception_v4", 0.75),
    Model("googlenet", 0.75),
    Model("googlenet_2014", 0.75),
    Model("xception41", 0.75),
)
# One for each pattern of operations that a family brings.
FAMILIES = (
    "resnet18 resnet50 resnet50c resnet50d resnet50t resnet50_gn resnet10t resnet34v2 resnet50v2 resnetaa50 "
    "resnetblur50 resnetrs50 resnetv2_50 resnetv2_50d resnetv2_50d_gn resnetv2_50x1_bit resnext50_32x4d "
    "seresnet50 seresnetaa50d seresnext26t_32x4d ecaresnet26t ecaresnetlight wide_resnet50_2 "
    "plain18 plain20 resnet20 resnet20_option_b resnet20_option_c preact_resnet110 wide_resnet16_4 "
    "inception_v2 inception_resnet_v1 inception_resnet_v2 xception41p vgg11 vgg11_bn"
).split()
# What the images go from and to where it is not -1 to 1: BGR without a deviation; normalised inside.
RANGES = {
    **dict.fromkeys("resnet50 resnet101 resnet152 vgg16 vgg19 googlenet_2014".split(), (-103.9, 131.1)),
    "keras.EfficientNetB0": (0.0, 255.0),
}
APPLICATIONS = ("keras.DenseNet121", "keras.MobileNetV2", "keras.EfficientNetB0")
GROUPS = ("table", "families", "applications", "zoo", "all")
CLIENT_MODELS = ("resnet50", "inception_v3", "xception")


class Opened(NamedTuple):
    """A file in a runtime.

    Attributes:
        set_input: Takes an image (1, H, W, C), float32.
        invoke: Computes; what is timed.
        logits: What came out, float32 (classes,).
    """

    set_input: Callable[[np.ndarray], Any]
    invoke: Callable[[], Any]
    logits: Callable[[], np.ndarray]


def quantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Float values in the type of an interpreter's tensor, same shape; a float has the scale 0."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(tensor["dtype"])


def dequantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """The same back, flat."""
    scale, zero_point = tensor["quantization"]
    return np.ravel((values.astype(np.float32) - zero_point) * (scale or 1.0))


def open_tflite(path: Path, threads: int) -> Opened:
    """A .tflite file in LiteRT with its default delegate."""
    interpreter = _interpreter(path, threads)
    image, logits = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    return Opened(
        lambda x: interpreter.set_tensor(image["index"], quantize(x, image)),
        interpreter.invoke,
        lambda: dequantize(interpreter.get_tensor(logits["index"]), logits),
    )


def _interpreter(path: Path, threads: int, delegate: bool = True) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter


def input_shape(path: Path) -> tuple[int, ...]:
    """(H, W, C) of a .tflite file."""
    return tuple(_interpreter(path, 1).get_input_details()[0]["shape"][1:])


def open_openvino(path: Path, threads: int) -> Opened:
    """A .tflite file in OpenVINO, which keeps its input and output types."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    interpreter = _interpreter(path, threads)  # It tells the scales.
    image, logits = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    return Opened(
        lambda x: request.set_input_tensor(openvino.Tensor(quantize(x, image))),
        request.infer,
        lambda: dequantize(request.get_output_tensor(0).data, logits),
    )


def open_onnx(path: Path, threads: int) -> Opened:
    """An .onnx file with float input and output (N, C, H, W) in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would go on looking for work for 100 ms, on the cores of whoever is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed: dict[str, np.ndarray] = {}
    found: list[np.ndarray] = []
    name = session.get_inputs()[0].name

    def set_input(image: np.ndarray) -> None:
        feed[name] = np.ascontiguousarray(image.transpose(0, 3, 1, 2))

    def invoke() -> None:
        found[:] = session.run(None, feed)

    return Opened(set_input, invoke, lambda: np.ravel(found[0]))


@dataclass(frozen=True)
class Client:
    """A runtime to compare with.

    Attributes:
        label: Its name.
        packages: What must be installed.
        file: The file of the folder that it runs.
        open: How.
    """

    label: str
    packages: tuple[str, ...]
    file: str
    open: Callable[[Path, int], Opened]

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


STOCK_FLOAT, STOCK_INT8, ONNX_INT8 = "stock_float32.tflite", "stock_int8.tflite", "onnxruntime_int8.onnx"
CLIENTS = {
    "openvino": Client("OpenVINO", ("openvino",), STOCK_INT8, open_openvino),
    "onnxruntime": Client("ONNX Runtime", ("onnxruntime", "onnx", "tf2onnx"), ONNX_INT8, open_onnx),
}


@functools.cache  # One run times one state of the converters.
def ours(recipe: str) -> str:
    """What our file is called: a change of the converters changes it."""
    folder = Path(__file__).parents[1] / "converters"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))))
    return f"ours_{recipe}_{digest.hexdigest()[:8]}.tflite"


def images(name: str, shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Noise (count, H, W, C), float32: what the network of that name takes."""
    low, high = RANGES.get(name, (-1.0, 1.0))
    return np.random.default_rng(seed).uniform(low, high, (count, *shape)).astype(np.float32)


def build(name: str) -> Any:
    """The network with random weights and without a softmax.

    Its batch norms have statistics that a trained network could have, so that nothing folds away as trivial.
    """
    import keras

    import keras_archs

    keras.utils.set_random_seed(0)
    if name.startswith("keras."):
        model = getattr(keras.applications, name[6:])(weights=None, classifier_activation=None)
    else:
        model = keras_archs.create_model(name, weights=None, classifier_activation=None)
    random = np.random.default_rng(0)
    # Nothing normalizes the sums of six hundred blocks: with gains of 1 they overflow.
    damping = 0.1 if name.startswith("resnet1202") else 1.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable, low, high in (
                (layer.gamma, 0.8 * damping, 1.2 * damping),
                (layer.beta, -0.2, 0.2),
                (layer.moving_mean, -0.2, 0.2),
                (layer.moving_variance, 0.8, 1.2),
            ):
                if variable is not None:
                    variable.assign(random.uniform(low, high, variable.shape))
    return model


def make(name: str, files: list[str], folder: Path) -> None:
    """Convert a network; runs in a process of its own.

    Args:
        name: Of a `Model`.
        files: What to make.
        folder: Where.
    """
    if ONNX_INT8 in files:
        write(folder / ONNX_INT8, _onnx_int8(name, folder / STOCK_FLOAT))
    if not (tflite := [file for file in files if file != ONNX_INT8]):
        return
    import converters

    model = build(name)
    data = images(name, model.input_shape[1:], CALIBRATION, 0)
    for file in tflite:
        maker, recipe = Path(file).stem.split("_")[:2]
        if maker == "ours":
            artifact = converters.convert(model, recipe, representative_data=data, progress=False)
            write(folder / file, artifact.files["model.tflite"])
        else:
            write(folder / file, _stock(model, recipe, data))


def _stock(model: Any, recipe: str, data: np.ndarray) -> bytes:
    """What TensorFlow's documentation says to write, from the SavedModel that we start from, too."""
    import tensorflow as tf

    from converters.saved_model import export_saved_model

    with tempfile.TemporaryDirectory() as folder:
        export_saved_model(model, model.input_shape[1:], 1, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        if recipe == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([data[i : i + 1]] for i in range(len(data)))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def _onnx_int8(name: str, path: Path) -> bytes:
    """A float32 .tflite file as ONNX Runtime's documentation says to quantize it: QDQ, weights by channel."""
    import tf2onnx
    from onnxruntime import quantization

    image = _interpreter(path, 1).get_input_details()[0]
    samples = images(name, tuple(image["shape"][1:]), CALIBRATION, 0).transpose(0, 3, 1, 2)

    class Reader(quantization.CalibrationDataReader):
        """Gives the images one by one."""

        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, np.ndarray]] = (
                {image["name"]: samples[i : i + 1]} for i in range(len(samples))
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next, None at the end."""
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as work:
        plain, prepared, done = (str(Path(work, f"{step}.onnx")) for step in ("plain", "prepared", "done"))
        tf2onnx.convert.from_tflite(str(path), opset=17, inputs_as_nchw=[image["name"]], output_path=plain)
        quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            done,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return Path(done).read_bytes()


def write(path: Path, content: bytes) -> None:
    """Whole or not at all: a killed run must not leave half a file for the next."""
    beside = path.with_suffix(".part")
    beside.write_bytes(content)
    beside.replace(path)


def take_turns(opened: dict[str, Opened], image: np.ndarray, runs: int) -> dict[str, np.ndarray]:
    """Milliseconds of one invoke, all runtimes alive, one invoke each in turn.

    Args:
        opened: By name.
        image: (1, H, W, C).
        runs: Invokes of each, at least: a small network gets as many as LEAST_SECONDS hold.

    Returns:
        For each its times, turn by turn.
    """
    times: dict[str, list[float]] = {name: [] for name in opened}
    for runtime in opened.values():
        runtime.set_input(image)
        for _ in range(WARM_UPS):
            runtime.invoke()
    names = list(opened)
    start = time.perf_counter()
    for name in names:
        opened[name].invoke()
    mean_s = (time.perf_counter() - start) / len(names)
    # What takes less than a millisecond is not to be judged by a fiftieth of a second.
    for i in range(max(runs, min(int(LEAST_SECONDS / mean_s), MOST_RUNS))):
        for name in names if i % 2 else names[::-1]:
            time.sleep(PAUSE_S)
            opened[name].invoke()  # What the others left in the caches is not this file's time.
            start = time.perf_counter()
            opened[name].invoke()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in times.items()}


def spread(times: np.ndarray) -> dict[str, float]:
    """The median of times in ms, the fastest, and the percentiles 10 and 90."""
    return {
        "runs": len(times),
        "median_ms": float(np.median(times)),
        "fastest_ms": float(times.min()),
        "p10_ms": float(np.percentile(times, 10)),
        "p90_ms": float(np.percentile(times, 90)),
    }


def ratio(ours: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Times of one over those of another, turn by turn: the median; and the fastest over the fastest."""
    return {"median": float(np.median(ours / other)), "fastest": float(ours.min() / other.min())}


def partitions(path: Path) -> dict[str, Any]:
    """How many pieces of a file the delegate runs, and which operations it leaves alone."""
    nodes = _interpreter(path, 1)._get_ops_details()
    pieces = [node for node in nodes if node["op_name"] == "DELEGATE"]
    operations = [node for node in nodes if node["op_name"] != "DELEGATE"]
    maker = {tensor: i for i, node in enumerate(operations) for tensor in node["outputs"]}
    taken: set[int] = set()
    for piece in pieces:
        border, tensors = set(piece["inputs"]), list(piece["outputs"])
        while tensors:
            tensor = tensors.pop()
            if tensor not in border and tensor in maker and maker[tensor] not in taken:
                taken.add(maker[tensor])
                tensors.extend(operations[maker[tensor]]["inputs"])
    left = Counter(node["op_name"] for i, node in enumerate(operations) if i not in taken)
    return {"partitions": len(pieces), "left_to_the_interpreter": dict(left)}


def steps_apart(path: Path, samples: np.ndarray) -> int:
    """By how many steps XNNPACK's integers differ from those of TFLite's own kernels, at most."""
    found = []
    for delegate in (True, False):
        interpreter = _interpreter(path, 1, delegate)
        image, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        outputs = []
        for sample in samples:
            interpreter.set_tensor(image["index"], quantize(sample[np.newaxis], image))
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(end["index"]).astype(int))
        found.append(np.stack(outputs))
    return int(np.abs(found[0] - found[1]).max())


def logits(opened: Opened, samples: np.ndarray) -> np.ndarray:
    """(N, classes) of images (N, H, W, C)."""
    found = []
    for i in range(len(samples)):
        opened.set_input(samples[i : i + 1])
        opened.invoke()
        found.append(opened.logits())
    return np.stack(found)


def closeness(exact: np.ndarray, found: np.ndarray) -> dict[str, float | None]:
    """SQNR of logits, None where they are equal, and their largest error over the range of the exact ones."""
    noise = float(np.mean((exact - found) ** 2, dtype=np.float64))
    signal = float(np.mean(exact**2, dtype=np.float64))
    return {
        "sqnr_db": 10 * float(np.log10(signal / noise)) if noise else None,
        "error": float(np.max(np.abs(exact - found)) / np.ptp(exact)),
    }


def _opened(maker: str, path: str, threads: int) -> Opened:
    return (CLIENTS[maker].open if maker in CLIENTS else open_tflite)(Path(path), threads)


def time_files(name: str, paths: dict[str, str], threads: list[int], runs: int) -> dict[str, Any]:
    """The times of `measure` alone, by number of threads, and the ratios of ours to the others'."""
    image = images(name, input_shape(Path(paths["ours"])), 1, 1)
    found: dict[str, Any] = {"times": {}, "ratios": {maker: {} for maker in paths if maker != "ours"}}
    for count in threads:
        opened = {maker: _opened(maker, path, count) for maker, path in paths.items()}
        times = take_turns(opened, image, runs)
        found["times"][str(count)] = {maker: spread(values) for maker, values in times.items()}
        for other, ratios in found["ratios"].items():
            ratios[str(count)] = ratio(times["ours"], times[other])
    return found


def measure(
    name: str, paths: dict[str, str], reference: str, threads: list[int], runs: int
) -> dict[str, Any]:
    """Time files against each other; runs in a process of its own, which has loaded nothing else.

    Args:
        name: Of the network.
        paths: By who made the file, or by the name of a client, which runs it then.
        reference: The stock float32 file.
        threads: Numbers of threads.
        runs: Invokes of each file and each number of threads.

    Returns:
        What is known of each file; its times and the ratios of ours to the others', by number of threads.
    """
    network = _interpreter(Path(reference), 1)
    shape, classes = (
        details[0]["shape"][1:] for details in (network.get_input_details(), network.get_output_details())
    )
    samples = images(name, tuple(shape), max(LEAST_IMAGES, LEAST_LOGITS // int(classes[-1])), 1)
    timed = time_files(name, paths, threads, runs)
    exact = logits(open_tflite(Path(reference), threads[0]), samples)
    files: dict[str, dict[str, Any]] = {}
    for maker, path in paths.items():
        files[maker] = {"bytes": os.path.getsize(path)}
        files[maker] |= closeness(exact, logits(_opened(maker, path, threads[0]), samples))
        if path.endswith(".tflite") and maker not in CLIENTS:
            files[maker] |= partitions(Path(path))
            if "int8" in Path(path).name:
                files[maker]["steps_apart"] = steps_apart(Path(path), samples[:COMPARED])
    return {"files": files, **timed}


def child(function: str, *arguments: Any) -> Any:
    """Call a function of this file in a fresh process; returns what it returned.

    Raises:
        RuntimeError: It failed, with its last line.
    """
    command = [sys.executable, __file__, "--child", json.dumps([function, arguments], default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise RuntimeError(f"exit code {done.returncode}: {''.join(last)[:300] or 'it said nothing'}")
    return json.loads(done.stdout.splitlines()[-1])


def _child(text: str) -> None:
    """The other end of `child`."""
    function, arguments = json.loads(text)
    if function == "make":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        make(arguments[0], arguments[1], Path(arguments[2]))
        print("null")
    else:
        called: Callable[..., Any] = measure if function == "measure" else time_files
        print(json.dumps(called(*arguments)))


def prepare(name: str, files: list[str], folder: Path) -> None:
    """Make the files that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    if lacking := [file for file in files if not (folder / file).exists()]:
        child("make", name, lacking, folder)


def compare(model: Model, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table: our file against the stock one."""
    recipe, paths = options.recipe, compared(options.recipe)
    prepare(model.name, list(dict.fromkeys([STOCK_FLOAT, *paths.values()])), folder)
    for outdated in set(folder.glob(f"ours_{recipe}_*")) - {folder / paths["ours"]}:
        outdated.unlink()
    if options.convert_only:
        return {"name": model.name, "problems": []}
    row = {"name": model.name, "target": model.target if recipe == "int8" else EQUAL} | child(
        "measure",
        model.name,
        {name: folder / file for name, file in paths.items()},
        folder / STOCK_FLOAT,
        options.threads,
        options.runs,
    )
    row["ratios"] = row["ratios"]["stock"]
    row["rounds"] = [dict(row["ratios"])]
    row["problems"] = problems(row, recipe)
    return row


def compared(recipe: str) -> dict[str, str]:
    """The two files of a network, by who made them."""
    return {"stock": f"stock_{recipe}.tflite", "ours": ours(recipe)}


def disturbed(times: dict[str, Any]) -> bool:
    """Whether a file's times spread more than a quiet host spreads them."""
    return any(
        file["p90_ms"] > QUIET * file["p10_ms"] for by_name in times.values() for file in by_name.values()
    )


def compare_again(row: dict[str, Any], folder: Path, options: argparse.Namespace) -> None:
    """Another round of a row: for each number of threads, the times stay in which both files were fastest."""
    paths = {name: folder / file for name, file in compared(options.recipe).items()}
    timed = child("time_files", row["name"], paths, options.threads, options.runs)
    row["rounds"].append(timed["ratios"]["stock"])
    for count, by_name in timed["times"].items():
        if _both(by_name) < _both(row["times"][count]):
            row["times"][count], row["ratios"][count] = by_name, timed["ratios"]["stock"][count]
    row["problems"] = problems(row, options.recipe)


def _both(by_name: dict[str, dict[str, float]]) -> float:
    return sum(times["median_ms"] for times in by_name.values())


def problems(row: dict[str, Any], recipe: str) -> list[str]:
    """Which targets a row misses, in words."""
    found = [
        f"{count} threads x{ratio['median']:.3f} (target {row['target']}, fastest x{ratio['fastest']:.3f})"
        for count, ratio in row["ratios"].items()
        if ratio["median"] > row["target"]
    ]
    stock, mine = row["files"]["stock"], row["files"]["ours"]
    if recipe == "float32":
        if mine["error"] > MOST_FLOAT_ERROR:
            found.append(f"logits off by {mine['error']:.1e} of their range (at most {MOST_FLOAT_ERROR:.0e})")
    elif mine["sqnr_db"] is not None and mine["sqnr_db"] < (stock["sqnr_db"] or np.inf) - MOST_DB_LOST:
        found.append(
            f"SQNR {mine['sqnr_db']:.1f} dB, stock {stock['sqnr_db']:.1f} (at most {MOST_DB_LOST} less)"
        )
    return found


HEADER = (
    f"{'model':20} {'threads':>7} {'stock ms':>8} {'p10-p90':>15} {'ours ms':>8} {'p10-p90':>15} "
    f"{'median':>7} {'fastest':>7} {'target':>6}  {'partitions':>10} {'SQNR dB':>14} {'MB':>14}"
)


def lines(row: dict[str, Any]) -> Iterator[str]:
    """A row for the terminal, one line for each number of threads."""
    if "times" not in row:
        yield f"{row['name']:20} {'; '.join(row['problems']) or 'converted'}"
        return
    stock, mine = row["files"]["stock"], row["files"]["ours"]
    facts = (
        f"{stock['partitions']:>4} -> {mine['partitions']:<2} {_db(stock):>5} -> {_db(mine):<5} "
        f"{stock['bytes'] / 1e6:>5.1f} -> {mine['bytes'] / 1e6:<5.1f}"
    )
    name = row["name"]
    for count, times in row["times"].items():
        ratio = row["ratios"][count]
        yield (
            f"{name:20} {count:>7} {_spread(times['stock'])} {_spread(times['ours'])} "
            f"{ratio['median']:>7.2f} {ratio['fastest']:>7.2f} {row['target']:>6.2f}  {facts}"
        )
        name, facts = "", ""


def _db(file: dict[str, Any]) -> str:
    return "equal" if file["sqnr_db"] is None else f"{file['sqnr_db']:.1f}"


def _spread(times: dict[str, float]) -> str:
    spread = f"{times['p10_ms']:.2f}-{times['p90_ms']:.2f}"
    return f"{times['median_ms']:>8.2f} {spread:>15}"


def compare_clients(folders: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Our int8 file against other runtimes, which get as many threads; prints as it goes."""
    there = []
    for name, client in CLIENTS.items():
        if missing := client.missing():
            print(f"{client.label} is left out: not installed: {', '.join(missing)}", flush=True)
        else:
            there.append(name)
    rows = []
    for model in CLIENT_MODELS if there else ():
        try:
            row = _client_row(model, folders / model, there, options)
        except RuntimeError as error:
            row = {"name": model, "problems": [f"not measured: {error}"]}
        rows.append(row)
        for line in client_lines(row):
            print(line, flush=True)
    return rows


def _client_row(model: str, folder: Path, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    prepare(model, [STOCK_FLOAT, STOCK_INT8, ours("int8")], folder)
    prepare(model, [CLIENTS[name].file for name in names], folder)
    if options.convert_only:
        return {"name": model, "problems": []}
    paths = {"ours": folder / ours("int8")} | {name: folder / CLIENTS[name].file for name in names}
    row = child("measure", model, paths, folder / STOCK_FLOAT, options.threads, options.runs)
    return {"name": model} | row


def client_lines(row: dict[str, Any]) -> Iterator[str]:
    """A row for the terminal, one line for each number of threads and each client."""
    if "times" not in row:
        yield f"{row['name']:20} {'; '.join(row['problems']) or 'converted'}"
        return
    for count, times in row["times"].items():
        for name, by_threads in row["ratios"].items():
            yield (
                f"{row['name']:20} {count:>7} ours {_spread(times['ours'])} ms, {CLIENTS[name].label} "
                f"{_spread(times[name])} ms: x{by_threads[count]['median']:.2f}, "
                f"fastest x{by_threads[count]['fastest']:.2f}; SQNR {_db(row['files']['ours'])} and "
                f"{_db(row['files'][name])} dB"
            )


PACKAGES = "keras-archs keras tensorflow ai-edge-litert numpy openvino onnxruntime onnx tf2onnx".split()
FLAGS = "avx2 avx512f avx512_vnni avx_vnni amx_int8 asimd asimddp i8mm".split()


def machine() -> dict[str, Any]:
    """What the times were taken on."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model_stepping": [fields.get(key) for key in ("cpu family", "model", "stepping")],
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.system(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load_at_the_start": os.getloadavg()[0],
    }


FASTER, EQUALLY_FAST, SLOWER, INK, PALE = "#2f6fb3", "#9fb8d3", "#c5552d", "#222222", "#8a8a8a"


def draw(results: dict[str, Any], path: str | Path) -> None:
    """Draw our latency over the stock converter's, a bar for each model, the fastest on top.

    Args:
        results: What `--json` writes; the first of its numbers of threads is drawn.
        path: Where to save the picture; its suffix sets the format.

    Raises:
        ValueError: No model of the results was timed.
    """
    from matplotlib.figure import Figure

    rows = [row for row in results["models"] if "times" in row]
    if not rows:
        raise ValueError("results has no model that was timed, so there is nothing to draw.")
    host, options = results["machine"], results["options"]
    threads = options["threads"][0]
    rows.sort(key=lambda row: _ratio(row, threads))
    figure = Figure(figsize=(8.4, 1.6 + 0.28 * len(rows)), dpi=150, layout="constrained")
    bars, numbers = figure.subplots(1, 2, sharey=True, width_ratios=(10, 4))
    _draw_bars(bars, rows, threads)
    _draw_numbers(numbers, rows, threads)
    figure.suptitle(
        f"{options['recipe']} latency: this package's artifacts against the stock converter's",
        x=0.01, ha="left", fontsize=11.5, fontweight="bold", color=INK,
    )  # fmt: skip
    marks = "; black ticks are the targets" if any(row["target"] < 1 for row in rows) else ""
    figure.supxlabel(
        f"Batch 1, {threads} thread{'s' * (threads > 1)}, medians of {options['runs']} or more interleaved "
        f"invokes, random weights{marks}.\nLiteRT {host['versions']['ai-edge-litert']} with XNNPACK on "
        f"{host['cores']} cores of {host['cpu']} ({', '.join(host['flags'])}), {host['date']}",
        fontsize=7.5, color=PALE, x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(path)


def _ratio(row: dict[str, Any], threads: int) -> float:
    return row["ratios"][str(threads)]["median"]


def _color(ratio: float) -> str:
    """What differs by less than the clock's noise has a colour of its own."""
    return FASTER if ratio < 2 - EQUAL else EQUALLY_FAST if ratio <= EQUAL else SLOWER


def _draw_bars(axes: Any, rows: list[dict[str, Any]], threads: int) -> None:
    values = [_ratio(row, threads) for row in rows]
    places = range(len(rows))
    axes.barh(places, values, height=0.68, color=[_color(value) for value in values], zorder=2)
    axes.axvline(1, color=INK, linewidth=1, zorder=3)
    for y, row in enumerate(rows):
        if row["target"] < 1:
            axes.plot([row["target"]] * 2, [y - 0.4, y + 0.4], color=INK, linewidth=2.2, zorder=4)
    axes.set_yticks(places, [row["name"].removeprefix("keras.") for row in rows], fontsize=8.5, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(1.08, *values))
    labels = {0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1: "stock"}
    axes.set_xticks(list(labels), list(labels.values()), fontsize=8, color=PALE)
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8, zorder=0)
    axes.spines[:].set_visible(False)


def _draw_numbers(axes: Any, rows: list[dict[str, Any]], threads: int) -> None:
    """To the right of the bars: the ratio, milliseconds, partitions where we change them."""
    places = {"ratio": 0.13, "ms": 0.58, "partitions": 1.0}
    axes.axis("off")
    for label, x in places.items():
        axes.text(x, -0.75, label, ha="right", va="bottom", fontsize=8, color=PALE)
    for y, row in enumerate(rows):
        ratio = _ratio(row, threads)
        stock, mine = (row["times"][str(threads)][who]["median_ms"] for who in ("stock", "ours"))
        before, after = (row["files"][who]["partitions"] for who in ("stock", "ours"))
        texts = {"ms": f"{stock:.1f} → {mine:.1f}", "partitions": f"{before} → {after}" * (before != after)}
        for label, text in texts.items():
            axes.text(places[label], y, text, ha="right", va="center", fontsize=8.5, color=INK)
        color = SLOWER if ratio > EQUAL else INK
        axes.text(
            places["ratio"],
            y,
            f"{ratio:.2f}",
            ha="right",
            va="center",
            fontsize=8.5,
            color=color,
            weight="bold",
        )


def chosen(options: argparse.Namespace) -> list[Model]:
    """The networks that the command line asks for."""
    names = options.models
    if names is None:
        groups = {
            "table": [model.name for model in TABLE],
            "families": FAMILIES,
            "applications": list(APPLICATIONS),
        }
        groups["all"] = [name for group in groups.values() for name in group]
        if options.group == "zoo":
            from keras_archs_cli.quiet import import_keras

            import_keras()
            import keras_archs

            groups["zoo"] = keras_archs.list_models()
        names = groups[options.group]
    table = {model.name: model for model in TABLE}
    return [table.get(name, Model(name)) for name in names]


def run(options: argparse.Namespace, folders: Path) -> dict[str, Any]:
    """Measure what was asked for, printing as it goes; the JSON file is whole after every model."""
    results: dict[str, Any] = {
        "machine": machine(),
        "options": {
            "recipe": options.recipe,
            "runs": options.runs,
            "threads": options.threads,
            "rounds": options.rounds,
        },
        "models": [],
        "clients": [],
    }

    def save() -> None:
        if options.json:
            write(options.json, json.dumps(results, indent=1).encode())

    models = chosen(options)
    print(HEADER, flush=True)
    for model in models:
        try:
            row = compare(model, folders / model.name, options)
        except RuntimeError as error:
            row = {"name": model.name, "problems": [f"not measured: {error}"]}
        results["models"].append(row)
        for line in lines(row):
            print(line, flush=True)
        save()
        if not options.keep and model.name not in CLIENT_MODELS:  # The whole zoo is 25 GB.
            shutil.rmtree(folders / model.name, ignore_errors=True)
    for i in range(1, options.rounds):
        for row in results["models"]:
            if "times" not in row or not disturbed(row["times"]):
                continue
            compare_again(row, folders / row["name"], options)
            for line in (f"round {i + 1}:", *lines(row)):
                print(line, flush=True)
            save()
    if options.clients:
        results["clients"] = compare_clients(folders, options)
        save()
    return results


def main() -> None:
    """Print the table; fail when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", metavar="NAME", help="instead of a group")
    parser.add_argument(
        "--group", choices=GROUPS, default="all",
        help="table: the named targets; families: one network for each pattern of the zoo; applications: of "
        "keras.applications; zoo: every one of keras_archs; all: the first three (default)",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1, help="times that were disturbed are taken again")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--recipe", choices=("int8", "float32"), default="int8")
    parser.add_argument("--clients", action="store_true", help="also OpenVINO and ONNX Runtime")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of converted files")
    parser.add_argument("--convert-only", action="store_true", help="fill the folder, time nothing")
    parser.add_argument("--picture", type=Path, metavar="FILE", help=".svg or .png")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="of an earlier --json: only draw (--models of) them"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child)
        return
    if options.rounds > 1 and not options.keep:
        parser.error("--rounds needs --keep: a later round runs the files of the first")
    if options.results:
        results = json.loads(options.results.read_bytes())
        if options.models:
            results["models"] = [row for row in results["models"] if row["name"] in options.models]
        draw(results, options.picture or parser.error("--picture is missing"))
        return
    with tempfile.TemporaryDirectory() as temporary:
        results = run(options, options.keep or Path(temporary))
    if options.picture and any("times" in row for row in results["models"]):
        draw(results, options.picture)
    missed = [row for row in results["models"] if row["problems"]]
    print(f"\n{len(results['models']) - len(missed)} of {len(results['models'])} models meet every target")
    for row in missed:
        print(f"  {row['name']}: {'; '.join(row['problems'])}")
    for row in results["models"]:
        if "files" in row and (mine := row["files"]["ours"])["partitions"] != 1:
            left = ", ".join(f"{count} {op}" for op, count in mine["left_to_the_interpreter"].items())
            print(f"  {row['name']} runs in {mine['partitions']} partitions; left to the interpreter: {left}")
        if "files" in row and (steps := row["files"]["ours"].get("steps_apart", 0)) > 1:
            stock = row["files"]["stock"]["steps_apart"]
            print(f"  {row['name']}: with and without the delegate {steps} steps apart; stock {stock}")
    if missed:
        sys.exit("a target is missed")


if __name__ == "__main__":
    main()
