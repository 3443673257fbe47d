"""The few layers that Keras does not have: serialisable, without weights, the same on every backend."""

from collections.abc import Sequence
from math import comb
from typing import Any

import keras
import numpy as np
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


@keras.saving.register_keras_serializable("keras_archs")
class StochasticAdd(layers.Layer):
    """y = x + scale * F(x), where training drops F of whole images: stochastic depth.

    Huang et al. (2016), "Deep Networks with Stochastic Depth", equation 2 (arXiv:1603.09382), with the factor
    1 / (1 - rate) in training in place of 1 - rate in inference. One layer that stands where the plain sum
    stands: a layer more in F would change the order of the layers, which weights files depend on.

    Args:
        rate: Share of the images that lose F in training.
        update: Which of the two inputs is F(x).
        scale: Factor of F(x).
        kwargs: Those of every Keras layer: `name`, `dtype`, `trainable`.

    Returns:
        Two tensors (N, H, W, C) become one (N, H, W, C).
    """

    def __init__(self, rate: float, update: int = 1, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.update = update
        self.scale = scale
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: list[Any], training: bool = False) -> Any:
        """Adds the two inputs."""
        update = inputs[self.update] * self.scale
        if training:
            shape = (ops.shape(update)[0], 1, 1, 1)
            update = keras.random.dropout(update, self.rate, noise_shape=shape, seed=self.seed_generator)
        return inputs[1 - self.update] + update

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Shape of the first input."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "update": self.update, "scale": self.scale}


@keras.saving.register_keras_serializable("keras_archs")
class StandardizedConv2D(layers.Conv2D):
    """Convolution with kernels of mean 0 and variance 1: weight standardisation.

    Qiao et al. (2019), arXiv:1903.10520, as used by Big Transfer, Kolesnikov et al. (2019), arXiv:1912.11370.

    Args:
        filters: Channels of the output.
        kernel_size: Height and width of the kernel.
        strides: Step of the convolution.
        padding: "valid" or "same".
        epsilon: Added to the variance of each kernel.
        kwargs: Those of `keras.layers.Conv2D`.

    Returns:
        (N, H, W, C) becomes (N, H', W', filters).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "valid",
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, strides, padding, **kwargs)
        self.epsilon = epsilon

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves with the standardised kernel (kh, kw, C, filters)."""
        # In float32 whatever the compute type: the variance of a kernel is small against its mean's square.
        weights = ops.cast(kernel, "float32")
        mean, variance = ops.moments(weights, axes=(0, 1, 2), keepdims=True)
        weights = (weights - mean) * ops.rsqrt(variance + self.epsilon)
        return super().convolution_op(inputs, ops.cast(weights, kernel.dtype))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("keras_archs")
class BlurPooling2D(layers.Layer):
    """Anti-aliased striding: a binomial filter, then every stride-th pixel.

    Zhang (2019), "Making Convolutional Networks Shift-Invariant Again", section 3.3 (arXiv:1904.11486). The
    edges are reflected. No weights.

    Args:
        pool_size: Height and width of the filter; 3 is [1, 2, 1] / 4.
        strides: Step of the filter.
        padding: "reflect".
        data_format: "channels_last" or "channels_first"; None means Keras' setting.
        kwargs: Those of every Keras layer: `name`, `dtype`, `trainable`.

    Returns:
        (N, H, W, C) becomes (N, H / strides, W / strides, C), rounded up.
    """

    def __init__(
        self,
        pool_size: int = 3,
        strides: int = 2,
        padding: str = "reflect",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if padding != "reflect":
            raise ValueError(f"padding={padding!r} is not accepted: only 'reflect'.")
        self.pool_size = pool_size
        self.strides = strides
        self.padding = padding
        self.data_format = data_format or keras.config.image_data_format()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the filter of every channel; it is a constant of the graph, not a weight."""
        line = np.array([comb(self.pool_size - 1, k) for k in range(self.pool_size)], "float32")
        line /= line.sum()
        channels: Any = input_shape[1 if self.data_format == "channels_first" else 3]
        self._filter = np.repeat(np.outer(line, line)[:, :, None, None], channels, axis=2)
        self.built = True

    def call(self, x: Any) -> Any:
        """Blurs and strides (N, H, W, C)."""
        axis = 1 if self.data_format == "channels_first" else 3
        pads = [(0, 0)] * 4
        for side in {1, 2, 3} - {axis}:
            pads[side] = (self.pool_size // 2, self.pool_size // 2)
        kernel = ops.convert_to_tensor(self._filter, x.dtype)
        x = ops.pad(x, pads, mode="reflect")
        return ops.depthwise_conv(x, kernel, self.strides, "valid", self.data_format)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the output: height and width divided by the stride, rounded up."""
        axis = 1 if self.data_format == "channels_first" else 3
        return tuple(
            size if i in (0, axis) or size is None else -(-size // self.strides)
            for i, size in enumerate(input_shape)
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable("keras_archs")
class LocalResponseNormalization(layers.Layer):
    """y = x / (k + alpha / size * sum of x^2 over neighbouring channels) ^ beta.

    Krizhevsky et al. (2012), section 3.3, in the form of Caffe and PyTorch, which divide alpha by the size.
    No weights.

    Args:
        size: Channels in the sum, half of them on either side.
        alpha: Weight of the sum.
        beta: Exponent.
        k: Added to the sum.
        data_format: "channels_last" or "channels_first"; None means Keras' setting.
        kwargs: Those of every Keras layer: `name`, `dtype`, `trainable`.

    Returns:
        (N, H, W, C), as the input.
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, x: Any) -> Any:
        """Normalizes (N, H, W, C) over windows of channels."""
        axis = 1 if self.data_format == "channels_first" else 3
        # In float32: float16 ends at 65504, the square of 256.
        dtype, x = x.dtype, ops.cast(x, "float32")
        squares = ops.square(x)
        # Squares beyond the first and last channel count as zero.
        pads = [(0, 0)] * 4
        pads[axis] = (self.size // 2, (self.size - 1) // 2)
        padded = ops.pad(squares, pads)
        total = sum(
            ops.take(padded, ops.arange(start, start + x.shape[axis]), axis) for start in range(self.size)
        )
        return ops.cast(x * ops.power(self.k + self.alpha / self.size * total, -self.beta), dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable("keras_archs")
class Preprocess(layers.Layer):
    """The input of published weights inside the graph: y = (x - mean) / deviation, in RGB or BGR order.

    Args:
        mean: Of each channel, in the order of the output.
        deviation: Of each channel.
        bgr: Whether the channels change from RGB to BGR.
        data_format: "channels_last" or "channels_first"; None means Keras' setting.
        kwargs: Those of every Keras layer: `name`, `dtype`, `trainable`.

    Returns:
        Images 0..255 (N, H, W, C) become (N, H, W, C) in the layer's type.
    """

    def __init__(
        self,
        mean: Sequence[float],
        deviation: Sequence[float],
        bgr: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Without autocast the image arrives as it is: bfloat16 has eight bits for 0..255.
        super().__init__(autocast=False, **kwargs)
        self.mean = list(mean)
        self.deviation = list(deviation)
        self.bgr = bgr
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, x: Any) -> Any:
        """Normalizes (N, H, W, C)."""
        axis = 1 if self.data_format == "channels_first" else 3
        shape = [1] * 4
        shape[axis] = len(self.mean)
        x = ops.flip(x, axis) if self.bgr else x
        x = ops.cast(x, "float32") - np.reshape(np.array(self.mean, "float32"), shape)
        return ops.cast(x / np.reshape(np.array(self.deviation, "float32"), shape), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "mean": self.mean,
            "deviation": self.deviation,
            "bgr": self.bgr,
            "data_format": self.data_format,
        }
