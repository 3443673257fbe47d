"""From the values of an image, 0..255, to what a network takes, and back."""

from __future__ import annotations

import numpy as np

from keras_archs.modes import Mode


def normalised(images: np.ndarray, mode: Mode) -> np.ndarray:
    """Images as a network takes them.

    Args:
        images: (N, H, W, C), 0..255, RGB.
        mode: The arithmetic.

    Returns:
        float32, the same shape.
    """
    ordered = images[..., ::-1] if mode.bgr else images
    return (ordered - np.asarray(mode.mean, np.float32)) / np.asarray(mode.deviation, np.float32)


def pixels(images: np.ndarray, mode: Mode) -> np.ndarray:
    """The images that `normalised` makes these of.

    Args:
        images: (N, H, W, C), as a network takes them.
        mode: The arithmetic.

    Returns:
        float32 0..255, RGB, the same shape.
    """
    ordered = images * np.asarray(mode.deviation, np.float32) + np.asarray(mode.mean, np.float32)
    return ordered[..., ::-1] if mode.bgr else ordered
