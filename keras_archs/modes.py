"""What the weights expect of an image: one mode a lineage of weights, as numbers."""

from dataclasses import dataclass

from keras import layers

from keras_archs.layers import Preprocess


@dataclass(frozen=True)
class Mode:
    """y = (x - mean) / deviation of images 0..255.

    Attributes:
        mean: Of each channel, in the order of the network's input; one number for any number of channels.
        deviation: Likewise.
        bgr: Whether the network wants blue first.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    bgr: bool = False


# caffe, slim, torch: statistics of ImageNet's training images; tf: 0..255 to -1..1; raw: nothing to do, the
# model normalizes by itself.
MODES = {
    "caffe": Mode((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "slim": Mode((123.68, 116.78, 103.94), (1.0, 1.0, 1.0)),
    "tf": Mode((127.5,), (127.5,)),
    "torch": Mode((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "raw": Mode((0.0,), (1.0,)),
}


def preprocess_layer(mode: str) -> layers.Layer:
    """The layer of `include_preprocessing=True`.

    Args:
        mode: Key of `MODES`.

    Returns:
        A layer from RGB images 0..255, (N, H, W, C), to the network's input of the same shape.
    """
    return Preprocess(MODES[mode].mean, MODES[mode].deviation, MODES[mode].bgr, name="preprocess")
