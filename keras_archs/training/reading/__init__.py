"""Where training images come from."""

from keras_archs.training.reading.open import open_source
from keras_archs.training.reading.source import Images, Pixels, Source, class_sizes

__all__ = ["Images", "Pixels", "Source", "class_sizes", "open_source"]
