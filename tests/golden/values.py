"""Parameters and images from a rule, so that a golden file has to hold the logits alone.

Needs numpy only. Numbers are uniform and seeded by the parameter's name; they are scaled so that activations
stay near one through any depth, although nothing is trained: normalization multiplies, it does not adapt.
"""

import math
import re
import zlib

import numpy as np

# Every eighth channel is nearly dead, as in trained networks. Its variance is as small as the epsilon of
# normalization (1e-5 to 1e-3), so that a wrong epsilon shows in the logits; beside a variance of one it would
# not. Depthwise steps take other channels: what a norm made loud again, they would silence before it counts.
QUIET = 0.01
QUIET_CHANNELS = slice(7, None, 8)
QUIET_CHANNELS_DEPTHWISE = slice(3, None, 8)
# What a residual branch is damped by, because up to 139 of them are added up: every convolution of
# `layer1.0.conv2.weight` and the like, the last one of `blocks.3.stack.conv3.conv_pw.weight`.
IN_BRANCH = re.compile(r"\d\..*(conv\d|conv3\.conv_pw)\.weight$")
# The pre-activated Xceptions normalize the sum that they pass on: without this a quiet channel gets 100 times
# louder in every block.
ON_SUM = re.compile(r"^blocks\.\d+\.norm\.weight$")
# Pixels of one low-frequency patch of an image.
CELL = 16


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor of a PyTorch state dict, `num_batches_tracked` excepted.

    Args:
        name: Its name there.
        shape: Its shape there, (outputs, inputs, ...) for weights.

    Returns:
        float32 of that shape.
    """
    values = np.random.default_rng(zlib.crc32(name.encode())).random(shape, np.float32)
    depthwise = "_dw." in name or shape[1:2] == (1,)
    quiet = np.ones(shape[0], np.float32)
    quiet[QUIET_CHANNELS_DEPTHWISE if depthwise else QUIET_CHANNELS] = QUIET
    if name.endswith(".running_var"):
        return (values + 0.5) * quiet**2  # 0.5 to 1.5
    if len(shape) > 1:
        return _weight(name, values, quiet)
    if name.endswith(".weight"):
        scale = values + 0.5  # of normalization
        return scale * quiet if ON_SUM.search(name) else scale
    return (0.2 * values - 0.1) * quiet  # biases and running means


def _weight(name: str, values: np.ndarray, quiet: np.ndarray) -> np.ndarray:
    """Uniform; 0.92 of He's variance, 2 / fan-in, since normalization with the numbers above adds some."""
    limit = math.sqrt(5.5 / math.prod(values.shape[1:]))
    if values.shape[1] == 1:  # depthwise: no ReLU follows that would take half
        limit /= math.sqrt(2)
    if IN_BRANCH.search(name):
        limit /= 2
    values -= 0.5
    values *= 2 * limit
    if values.ndim > 2:  # not the classifier
        values *= quiet.reshape(-1, *[1] * (values.ndim - 1))
    return values


def image(size: int) -> np.ndarray:
    """What a network gets after preprocessing: noise on cells of 16 pixels, mean about 0, variance about 1.

    Args:
        size: Height and width.

    Returns:
        float32 (1, size, size, 3).
    """
    rng = np.random.default_rng(size)
    cells = -(-size // CELL)
    coarse = rng.random((1, cells, cells, 3), np.float32).repeat(CELL, axis=1).repeat(CELL, axis=2)
    fine = rng.random((1, size, size, 3), np.float32)
    return np.float32(math.sqrt(6)) * (coarse[:, :size, :size] + fine - 1)
