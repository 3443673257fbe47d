"""Scikit-learn's handwritten digits: real data that is always there."""

import numpy as np

from keras_archs.training.reading.source import Pixels, Source


def read_digits(size: int) -> Source:
    """Take scikit-learn's 1797 handwritten digits (8 x 8 pixels, ten classes) and enlarge them.

    Args:
        size: Side in pixels.

    Returns:
        The digits, white on black.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in grey]
    pixels = np.repeat(np.stack([np.asarray(image) for image in large])[..., None], 3, axis=-1)
    names = tuple(str(name) for name in digits.target_names)
    return Source(Pixels(pixels), digits.target.astype(np.int32), names)
