"""Published kernels for other numbers of input channels."""

import numpy as np


def adapted_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The first kernel of a network for RGB, for another number of channels, as timm adapts it.

    One channel gets the sum over RGB: a grey image answers as its RGB copy. More get RGB again and again,
    scaled so that the sum over the channels stays.

    Args:
        kernel: (H, W, 3, filters).
        channels: Wanted.

    Returns:
        (H, W, channels, filters).
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-channels // 3), 1))[:, :, :channels]
    return repeated * np.float32(3 / channels)
