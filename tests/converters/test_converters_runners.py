import numpy as np

from converters.runners import dequantize, quantize

INT8 = {"quantization": (0.5, 3), "dtype": np.int8}
FLOAT = {"quantization": (0.0, 0), "dtype": np.float32}


def test_rounding_is_half_away_from_zero_and_saturates():
    values = np.array([0.0, 0.25, -0.25, 0.24, 0.75, -0.75, 1e3, -1e3], np.float32)
    np.testing.assert_array_equal(quantize(values, INT8), [3, 4, 2, 3, 5, 1, 127, -128])
    assert quantize(values, INT8).dtype == np.int8


def test_quantized_values_come_back_within_half_a_step():
    values = np.linspace(-60, 60, 999, dtype=np.float32)
    back = dequantize(quantize(values, INT8), INT8)
    assert back.dtype == np.float32
    assert np.abs(back - values).max() <= 0.25


def test_float_tensors_pass_through():
    values = np.float32([1.5, -2])
    assert quantize(values, FLOAT) is values
    assert dequantize(values, FLOAT) is values
