"""Schedules against numbers of torch (tests/training/golden) and by hand."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_archs.training.schedules import (
    Constant,
    Cosine,
    Exponential,
    Polynomial,
    Step,
    Warmup,
    scaled_rate,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "schedules.json").read_text())
# Ours with the arguments of the golden file's.
CURVES = {
    "warmup_cosine": Warmup(Cosine(0.5, 19, end=0.01, begin=4), 4, start=0.01),
    "cosine": Cosine(0.5, 19, end=0.01),
    "step": Step(0.5, [6, 11], 0.1),
    "polynomial": Polynomial(0.5, 16, power=2),
    "staircase": Exponential(0.5, 3),
    "exponential": Exponential(0.5, 1, staircase=False),
}


def test_rates_equal_those_of_torch():
    for name, curve in CURVES.items():
        found = [float(curve(step)) for step in range(20)]
        np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_rates_by_hand():
    numbers = {
        (Constant(0.3), 7): 0.3,
        (Cosine(1.0, 40, end=0.2), 10): 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2,
        (Cosine(1.0, 40, end=0.2), 1000): 0.2,
        (Cosine(1.0, 30, begin=10), 10): 1.0,
        (Cosine(1.0, 30, begin=10), 20): 0.5,
        (Step(0.1, [32000, 48000]), 31999): 0.1,
        (Step(0.1, (32000, 48000)), 32000): 0.01,
        (Step(0.1, (32000, 48000)), 48000): 0.001,
        (Step(0.1, ()), 5): 0.1,
        (Polynomial(1.0, 10, end=0.1, begin=2), 6): 0.55,
        (Exponential(0.045, 100, 0.94), 199): 0.045 * 0.94,
        (Exponential(0.045, 100, 0.94), 200): 0.045 * 0.94**2,
        (Exponential(0.045, 100, 0.94, staircase=False), 150): 0.045 * 0.94**1.5,
        (Exponential(0.045, 100, 0.94, begin=50), 149): 0.045,
        (Exponential(0.045, 100, 0.94, begin=50), 150): 0.045 * 0.94,
        # timm's way: the rise aims at the peak, and the curve is already on its way when it takes over.
        (Warmup(Cosine(1.0, 20), 10, start=0.5), 5): 0.75,
        (Warmup(Cosine(1.0, 20), 10, start=0.5), 10): 0.5,
        (Warmup(Constant(0.4), 400), 0): 0.0,
        (Warmup(Constant(0.4), 400), 100): 0.1,
        (Warmup(Constant(0.4), 400), 401): 0.4,
        (Warmup(keras.optimizers.schedules.CosineDecay(1.0, 20), 5), 10): 0.5,
    }
    for (curve, step), wanted in numbers.items():
        assert float(curve(step)) == pytest.approx(wanted, rel=1e-5, abs=1e-8), (curve, step)


def test_many_steps_give_a_line_to_plot():
    for curve in (Constant(0.5), *CURVES.values()):
        line = keras.ops.convert_to_numpy(curve(np.arange(20)))
        np.testing.assert_allclose(line, [float(curve(step)) for step in range(20)], rtol=1e-6)


def test_schedules_are_saved_and_loaded():
    for curve in (Constant(0.5), *CURVES.values()):
        config = keras.optimizers.schedules.serialize(curve)
        assert keras.optimizers.schedules.deserialize(json.loads(json.dumps(config))) == curve


def test_an_optimizer_follows_its_schedule():
    optimizer = keras.optimizers.SGD(Warmup(Step(1.0, [3], 0.5), 2))
    variable = keras.Variable(np.zeros(1, "float32"))
    places = []
    for _ in range(5):
        optimizer.apply([np.ones(1, "float32")], [variable])
        places.append(float(variable[0]))
    assert places == [0, -0.5, -1.5, -2, -2.5]


def test_scaled_rate():
    assert scaled_rate(0.1, 1024, 256, "none") == 0.1
    assert scaled_rate(0.1, 1024, 256) == pytest.approx(0.4)
    assert scaled_rate(0.1, 1024, 256, "sqrt") == pytest.approx(0.2)


BAD = {
    r"rate=-1 is not accepted: a number from 0": lambda: Constant(-1),
    r"begin=5 and steps=5 are not accepted": lambda: Cosine(1.0, 5, begin=5),
    r"end=nan is not accepted": lambda: Polynomial(1.0, 5, end=math.nan),
    r"power=0 is not accepted: a number above 0": lambda: Polynomial(1.0, 5, power=0),
    r"boundaries=\[4, 4\] must be steps above 0 that rise": lambda: Step(1.0, [4, 4]),
    r"boundaries=\[0\] must be": lambda: Step(1.0, [0]),
    r"factor=-0.1 is not accepted": lambda: Step(1.0, [4], -0.1),
    r"every=0 is not accepted": lambda: Exponential(1.0, 0),
    r"steps=0 is not accepted": lambda: Warmup(Constant(1.0), 0),
    r"scaling='lin' is not accepted.*'linear'": lambda: scaled_rate(0.1, 8, 8, "lin"),
    r"base_batch=0 is not accepted": lambda: scaled_rate(0.1, 8, 0),
}


def test_bad_values_are_named():
    for message, make in BAD.items():
        with pytest.raises(ValueError, match=message):
            make()
