"""The few layers that Keras does not have: serialisable, without weights, the same on every backend."""

from typing import Any

import keras
from keras import layers, ops


def channel_axis() -> int:
    """Axis of the channels in a batch of images: 3 for (N, H, W, C), 1 for (N, C, H, W)."""
    return 1 if keras.config.image_data_format() == "channels_first" else 3


@keras.saving.register_keras_serializable("keras_archs")
class ChannelPad(layers.Layer):
    """Pads the channels with zeros: the parameter-free shortcut where the width grows.

    He et al. (2015), section 3.3, option A (arXiv:1512.03385). The paper does not say on which side the zeros
    go; here they go half before and half after, as in the CIFAR implementation whose weights are in use.

    Args:
        filters: Channels of the output.
        data_format: "channels_last" or "channels_first"; None means Keras' setting.
        kwargs: Those of every Keras layer: `name`, `dtype`, `trainable`.

    Returns:
        (N, H, W, C) becomes (N, H, W, filters).
    """

    def __init__(self, filters: int, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        # Kept, as Keras' own layers keep it: a saved model must not follow a later setting.
        self.data_format = data_format or keras.config.image_data_format()
        self._axis = 1 if self.data_format == "channels_first" else 3

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Refuses to narrow the tensor."""
        channels = input_shape[self._axis]
        if channels is None or channels > self.filters:
            raise ValueError(f"filters={self.filters} must be at least the {channels} channels of the input.")
        self.built = True

    def call(self, x: Any) -> Any:
        """Pads (N, H, W, C) to (N, H, W, filters)."""
        extra = self.filters - x.shape[self._axis]
        pads = [(0, 0)] * 4
        pads[self._axis] = (extra // 2, extra - extra // 2)
        return ops.pad(x, pads)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the output: that of the input with `filters` channels."""
        return (*input_shape[: self._axis], self.filters, *input_shape[self._axis + 1 :])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "filters": self.filters, "data_format": self.data_format}


@keras.saving.register_keras_serializable("keras_archs")
class ScaledAdd(layers.Layer):
    """y = x + scale * F(x), the damped residual sum of Inception-ResNet.

    Szegedy et al. (2016), section 3.3 (arXiv:1602.07261): scales of 0.1 to 0.3 keep wide residual networks
    from dying early in training.

    Args:
        scale: Factor of the second input.
        kwargs: Those of every Keras layer: `name`, `dtype`, `trainable`.

    Returns:
        Two tensors (N, H, W, C) become one (N, H, W, C).
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: list[Any]) -> Any:
        """Adds the scaled second input to the first."""
        shortcut, update = inputs
        return shortcut + update * self.scale

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Shape of the first input."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "scale": self.scale}
