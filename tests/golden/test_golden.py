"""Every network of timm and torchvision, from its parameter names through our loader to its logits."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from golden.values import image, parameter
from safetensors.numpy import save_file

import keras_archs
from keras_archs.analysis import analyze

FOLDER = Path(__file__).parent
FIXED = ("googlenet",)  # its auxiliary heads flatten features
OURS = {"legacy_xception": "xception"}
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def options(case, golden):
    """Our arguments for a reference: file names are source, model and perhaps output stride."""
    name = case.split("_", 1)[1]
    name, _, stride = name.partition("_os")
    arguments = {"classifier_activation": None, "convention": "torch"}
    if stride:
        arguments["output_stride"] = int(stride)
    if "aux_even" in golden:
        arguments["aux_heads"] = True
    if name in FIXED or name.startswith("vgg"):
        arguments["input_shape"] = (int(golden["sizes"][0]),) * 2 + (3,)
    else:
        arguments["input_shape"] = (None, None, 3)
    return OURS.get(name, name), arguments


def assert_equal(actual, expected):
    error = np.abs(np.asarray(actual)[0] - expected).max() / np.abs(expected).max()
    assert error <= 1e-4


@pytest.mark.parametrize("case", CASES)
def test_logits(case):
    golden = np.load(FOLDER / f"{case}.npz")
    name, arguments = options(case, golden)
    shapes = [tuple(map(int, shape.split(","))) if shape else () for shape in golden["shapes"]]
    tensors = {str(n): parameter(str(n), s) for n, s in zip(golden["names"], shapes, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(tensors, path)
        del tensors
        model = keras_archs.create_model(name, weights=path, **arguments)
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert trainable == int(golden["parameters"])

    even, odd = map(int, golden["sizes"])
    assert analyze(model, even).macs == int(golden["macs"])
    outputs = model(image(even))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert_equal(outputs[0], golden["logits_even"])
    for actual, expected in zip(outputs[1:], golden.get("aux_even", []), strict=True):
        assert_equal(actual, expected)
    if None not in model.input_shape[1:]:  # its classifier fixes the size
        arguments["input_shape"] = (odd, odd, 3)
        other = keras_archs.create_model(name, weights=None, **arguments)
        other.set_weights(model.get_weights())
        model = other
    outputs = model(image(odd))
    assert_equal(outputs[0] if isinstance(outputs, list) else outputs, golden["logits_odd"])


def test_at_least_sixty_references():
    assert len(CASES) >= 60
