"""TF-slim's networks as its sources have them: the variables of their checkpoints, and what they compute.

Read off tensorflow/models, research/slim/nets/{resnet_v1,resnet_v2,resnet_utils,inception_v1,inception_v2,
inception_v3,inception_v4,inception_resnet_v2,inception_utils,vgg}.py, and davidsandberg/facenet,
src/models/inception_resnet_v1.py and src/train_softmax.py. Nothing here knows keras_archs.

A network is a function that calls layers on x. `variables` plays it with numbers of channels for x and
collects names and shapes; `logits` plays it with tensors and computes, in TensorFlow's operations with slim's
paddings.

The branches of an inception module are written as text: branches by "|", steps by blanks, the two ends of a
fork by "+". A step is "max", "avg", or the scope of a convolution, whose last digits are its kernel unless
"=" gives another, then ":" and its filters. "/2" strides, "!" pads VALID instead of SAME.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

X = Any  # channels, or a tensor (N, H, W, C)
STEP = re.compile(r"(?:(max|avg)|(\w+?)(?:=(\d)x(\d))?:(\d+))(/2)?(!)?")


@dataclass
class Slim:
    """slim's layers in one network: with `values` they compute, without they only declare variables."""

    top: str
    epsilon: float
    scale: bool
    values: dict[str, np.ndarray] | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def variable(self, name: str, *shape: int, top: str | None = None) -> np.ndarray | None:
        name = f"{self.top if top is None else top}/{name}".removeprefix("/")
        assert name not in self.shapes
        self.shapes[name] = shape
        return self.values and self.values[name]

    def conv(self, x, scope, filters, kernel, stride=1, pad="SAME", norm=True, relu=True) -> X:
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        weights = self.variable(f"{scope}/weights", high, wide, channels(x), filters)
        if self.values is None:
            y = filters
        else:
            if pad == "EXPLICIT":  # resnet_utils.conv2d_same
                x = tf.pad(x, [[0, 0], *[[(kernel - 1) // 2, kernel // 2]] * 2, [0, 0]])
            y = tf.nn.conv2d(x, weights, stride, "VALID" if pad == "EXPLICIT" else pad)
        y = self.batch_norm(y, f"{scope}/BatchNorm") if norm else self.biased(y, scope)
        return self.relu(y) if relu else y

    def separable(self, x, scope, filters, kernel, multiplier, stride) -> X:
        """slim.separable_conv2d with its own defaults, which are no argument of any scope: bias and ReLU."""
        deep = self.variable(f"{scope}/depthwise_weights", kernel, kernel, channels(x), multiplier)
        flat = self.variable(f"{scope}/pointwise_weights", 1, 1, channels(x) * multiplier, filters)
        y = filters
        if self.values is not None:
            y = tf.nn.separable_conv2d(x, deep, flat, [1, stride, stride, 1], "SAME")
        return self.relu(self.biased(y, scope))

    def dense(self, x, scope, units, norm=False, top=None) -> X:
        weights = self.variable(f"{scope}/weights", channels(x), units, top=top)
        y = units if self.values is None else tf.matmul(x, weights)
        return self.batch_norm(y, f"{scope}/BatchNorm") if norm else self.biased(y, scope, top)

    def biased(self, x, scope, top=None) -> X:
        biases = self.variable(f"{scope}/biases", channels(x), top=top)
        return x if self.values is None else x + biases

    def batch_norm(self, x, scope) -> X:
        names = ("beta", *("gamma",) * self.scale, "moving_mean", "moving_variance")
        v = {name: self.variable(f"{scope}/{name}", channels(x)) for name in names}
        if self.values is None:
            return x
        return tf.nn.batch_normalization(
            x, v["moving_mean"], v["moving_variance"], v["beta"], v.get("gamma"), self.epsilon
        )

    def relu(self, x) -> X:
        return x if self.values is None else tf.nn.relu(x)

    def pool(self, x, kind, size, stride, pad) -> X:
        pool = tf.nn.max_pool2d if kind == "max" else tf.nn.avg_pool2d
        return x if self.values is None else pool(x, size, stride, pad)

    def mean(self, x) -> X:
        return x if self.values is None else tf.reduce_mean(x, [1, 2], keepdims=True)

    def add(self, x, y, scale=1.0) -> X:
        return x if self.values is None else x + scale * y

    def flat(self, x) -> X:
        return x if self.values is None else tf.reshape(x, (x.shape[0], -1))

    def mixed(self, x, scope, text) -> X:
        branches = []
        for k, branch in enumerate(text.split("|")):
            y = x
            for step in branch.split():
                y = self.joined([self.step(y, f"{scope}/Branch_{k}", end) for end in step.split("+")])
            branches.append(y)
        return self.joined(branches)

    def step(self, x, scope, text) -> X:
        kind, name, high, wide, filters, strides, valid = STEP.fullmatch(text).groups()
        stride, pad = 2 if strides else 1, "VALID" if valid else "SAME"
        if kind:
            return self.pool(x, kind, 3, stride, pad)
        high, wide = (high, wide) if high else re.search(r"(\d)x(\d)$", name).groups()
        scope = f"{scope}/{name if name.startswith('Conv') else f'Conv2d_{name}'}"
        return self.conv(x, scope, int(filters), (int(high), int(wide)), stride, pad)

    def joined(self, xs) -> X:
        return sum(xs) if self.values is None else tf.concat(xs, 3)


def channels(x: X) -> int:
    return x if isinstance(x, int) else x.shape[-1]


def classifier(slim: Slim, x: X, scope: str, classes: int) -> X:
    """The last layer of most networks: a 1x1 convolution of the mean."""
    return slim.flat(slim.conv(slim.mean(x), scope, classes, 1, norm=False, relu=False))


# resnet_v1.py, resnet_v2.py: stride 2 in the last unit of a block.
def units(depths: tuple[int, ...]):
    for i, depth in enumerate(depths, 1):
        for j in range(1, depth + 1):
            yield f"block{i}/unit_{j}", 32 << i, 2 if j == depth and i < len(depths) else 1


def spatial(slim: Slim, x: X, scope: str, base: int, stride: int) -> X:
    return slim.conv(x, scope, base, 3, stride, "SAME" if stride == 1 else "EXPLICIT")


def resnet_v1(slim: Slim, x: X, classes: int, depths: tuple[int, ...]) -> list[X]:
    x = slim.conv(x, "conv1", 64, 7, 2, "EXPLICIT")
    x = slim.pool(x, "max", 3, 2, "SAME")
    for unit, base, stride in units(depths):
        scope = f"{unit}/bottleneck_v1"
        if channels(x) == 4 * base:
            shortcut = slim.pool(x, "max", 1, stride, "SAME")
        else:
            shortcut = slim.conv(x, f"{scope}/shortcut", 4 * base, 1, stride, relu=False)
        y = slim.conv(x, f"{scope}/conv1", base, 1)
        y = spatial(slim, y, f"{scope}/conv2", base, stride)
        y = slim.conv(y, f"{scope}/conv3", 4 * base, 1, relu=False)
        x = slim.relu(slim.add(shortcut, y))
    return [classifier(slim, x, "logits", classes)]


def resnet_v2(slim: Slim, x: X, classes: int, depths: tuple[int, ...]) -> list[X]:
    bare = partial(slim.conv, norm=False, relu=False)
    x = bare(x, "conv1", 64, 7, 2, "EXPLICIT")
    x = slim.pool(x, "max", 3, 2, "SAME")
    for unit, base, stride in units(depths):
        scope = f"{unit}/bottleneck_v2"
        active = slim.relu(slim.batch_norm(x, f"{scope}/preact"))
        if channels(x) == 4 * base:
            shortcut = slim.pool(x, "max", 1, stride, "SAME")
        else:
            shortcut = bare(active, f"{scope}/shortcut", 4 * base, 1, stride)
        y = slim.conv(active, f"{scope}/conv1", base, 1)
        y = spatial(slim, y, f"{scope}/conv2", base, stride)
        y = bare(y, f"{scope}/conv3", 4 * base, 1)
        x = slim.add(shortcut, y)
    x = slim.relu(slim.batch_norm(x, "postnorm"))
    return [classifier(slim, x, "logits", classes)]


def vgg(slim: Slim, x: X, classes: int, depths: tuple[int, ...]) -> list[X]:
    conv = partial(slim.conv, norm=False)
    for i, depth in enumerate(depths, 1):
        for j in range(1, depth + 1):
            x = conv(x, f"conv{i}/conv{i}_{j}", min(32 << i, 512), 3)
        x = slim.pool(x, "max", 2, 2, "VALID")
    x = conv(x, "fc6", 4096, 7, pad="VALID")
    x = conv(x, "fc7", 4096, 1)
    return [slim.flat(conv(x, "fc8", classes, 1, relu=False))]


V1 = "0a_1x1:{} | 0a_1x1:{} 0b_3x3:{} | 0a_1x1:{} 0b_3x3:{} | max 0b_1x1:{}".format


def inception_v1(slim: Slim, x: X, classes: int) -> list[X]:
    x = slim.conv(x, "Conv2d_1a_7x7", 64, 7, 2)
    x = slim.pool(x, "max", 3, 2, "SAME")
    x = slim.conv(x, "Conv2d_2b_1x1", 64, 1)
    x = slim.conv(x, "Conv2d_2c_3x3", 192, 3)
    x = slim.pool(x, "max", 3, 2, "SAME")
    x = slim.mixed(x, "Mixed_3b", V1(64, 96, 128, 16, 32, 32))
    x = slim.mixed(x, "Mixed_3c", V1(128, 128, 192, 32, 96, 64))
    x = slim.pool(x, "max", 3, 2, "SAME")
    x = slim.mixed(x, "Mixed_4b", V1(192, 96, 208, 16, 48, 64))
    x = slim.mixed(x, "Mixed_4c", V1(160, 112, 224, 24, 64, 64))
    x = slim.mixed(x, "Mixed_4d", V1(128, 128, 256, 24, 64, 64))
    x = slim.mixed(x, "Mixed_4e", V1(112, 144, 288, 32, 64, 64))
    x = slim.mixed(x, "Mixed_4f", V1(256, 160, 320, 32, 128, 128))
    x = slim.pool(x, "max", 2, 2, "SAME")
    # Branch_2/Conv2d_0a_3x3: so in slim.
    slip = "0a_1x1:256 | 0a_1x1:160 0b_3x3:320 | 0a_1x1:32 0a_3x3:128 | max 0b_1x1:128"
    x = slim.mixed(x, "Mixed_5b", slip)
    x = slim.mixed(x, "Mixed_5c", V1(384, 192, 384, 48, 128, 128))
    return [classifier(slim, x, "Logits/Conv2d_0c_1x1", classes)]


V2 = "0a_1x1:{} | 0a_1x1:{} 0b_3x3:{} | 0a_1x1:{} 0b_3x3:{} 0c_3x3:{} | {} 0b_1x1:{}".format
V2_REDUCTION = "0a_1x1:{} 1a_3x3:{}/2 | 0a_1x1:{} 0b_3x3:{} 1a_3x3:{}/2 | max/2".format


def inception_v2(slim: Slim, x: X, classes: int) -> list[X]:
    x = slim.separable(x, "Conv2d_1a_7x7", 64, 7, 8, 2)
    x = slim.pool(x, "max", 3, 2, "SAME")
    x = slim.conv(x, "Conv2d_2b_1x1", 64, 1)
    x = slim.conv(x, "Conv2d_2c_3x3", 192, 3)
    x = slim.pool(x, "max", 3, 2, "SAME")
    x = slim.mixed(x, "Mixed_3b", V2(64, 64, 64, 64, 96, 96, "avg", 32))
    x = slim.mixed(x, "Mixed_3c", V2(64, 64, 96, 64, 96, 96, "avg", 64))
    x = slim.mixed(x, "Mixed_4a", V2_REDUCTION(128, 160, 64, 96, 96))
    x = slim.mixed(x, "Mixed_4b", V2(224, 64, 96, 96, 128, 128, "avg", 128))
    x = slim.mixed(x, "Mixed_4c", V2(192, 96, 128, 96, 128, 128, "avg", 128))
    x = slim.mixed(x, "Mixed_4d", V2(160, 128, 160, 128, 160, 160, "avg", 96))
    x = slim.mixed(x, "Mixed_4e", V2(96, 128, 192, 160, 192, 192, "avg", 96))
    x = slim.mixed(x, "Mixed_5a", V2_REDUCTION(128, 192, 192, 256, 256))
    x = slim.mixed(x, "Mixed_5b", V2(352, 192, 320, 160, 224, 224, "avg", 128))
    x = slim.mixed(x, "Mixed_5c", V2(352, 192, 320, 192, 224, 224, "max", 128))
    return [classifier(slim, x, "Logits/Conv2d_1c_1x1", classes)]


def stem_v3(slim: Slim, x: X) -> X:
    """Stem of Inception v3 and of both Inception-ResNets, up to Conv2d_4a_3x3."""
    x = slim.conv(x, "Conv2d_1a_3x3", 32, 3, 2, "VALID")
    x = slim.conv(x, "Conv2d_2a_3x3", 32, 3, 1, "VALID")
    x = slim.conv(x, "Conv2d_2b_3x3", 64, 3)
    x = slim.pool(x, "max", 3, 2, "VALID")
    x = slim.conv(x, "Conv2d_3b_1x1", 80, 1, 1, "VALID")
    return slim.conv(x, "Conv2d_4a_3x3", 192, 3, 1, "VALID")


def aux_features(slim: Slim, x: X, last: str) -> X:
    """All of the auxiliary classifier but its last layer; of images 299 high and wide."""
    x = slim.pool(x, "avg", 5, 3, "VALID")
    x = slim.conv(x, "AuxLogits/Conv2d_1b_1x1", 128, 1)
    return slim.conv(x, f"AuxLogits/{last}", 768, 5, 1, "VALID")


V3_A = "0a_1x1:64 | {} | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | avg 0b_1x1:{}".format
V3_B = (
    "0a_1x1:192 | 0a_1x1:{0} 0b_1x7:{0} 0c_7x1:192 "
    "| 0a_1x1:{0} 0b_7x1:{0} 0c_1x7:{0} 0d_7x1:{0} 0e_1x7:192 | avg 0b_1x1:192"
).format
V3_C = (
    "0a_1x1:320 | 0a_1x1:384 0b_1x3:384+{}_3x1:384 "
    "| 0a_1x1:448 0b_3x3:384 0c_1x3:384+0d_3x1:384 | avg 0b_1x1:192"
).format


def inception_v3(slim: Slim, x: X, classes: int, aux: bool = True) -> list[X]:
    x = slim.pool(stem_v3(slim, x), "max", 3, 2, "VALID")
    x = slim.mixed(x, "Mixed_5b", V3_A("0a_1x1:48 0b_5x5:64", 32))
    x = slim.mixed(x, "Mixed_5c", V3_A("0b_1x1:48 Conv_1_0c_5x5:64", 64))  # so in slim
    x = slim.mixed(x, "Mixed_5d", V3_A("0a_1x1:48 0b_5x5:64", 64))
    # Two 3x3 are called 1x1: so in slim.
    slip = "1a_1x1=3x3:384/2! | 0a_1x1:64 0b_3x3:96 1a_1x1=3x3:96/2! | max/2!"
    x = slim.mixed(x, "Mixed_6a", slip)
    for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
        x = slim.mixed(x, f"Mixed_6{letter}", V3_B(width))
    features = aux_features(slim, x, "Conv2d_2a_5x5") if aux else None
    reduction = "0a_1x1:192 1a_3x3:320/2! | 0a_1x1:192 0b_1x7:192 0c_7x1:192 1a_3x3:192/2! | max/2!"
    x = slim.mixed(x, "Mixed_7a", reduction)
    x = slim.mixed(x, "Mixed_7b", V3_C("0b"))
    x = slim.mixed(x, "Mixed_7c", V3_C("0c"))
    out = [classifier(slim, x, "Logits/Conv2d_1c_1x1", classes)]
    return [*out, classifier(slim, features, "AuxLogits/Conv2d_2b_1x1", classes)] if aux else out


V4_A = "0a_1x1:96 | 0a_1x1:64 0b_3x3:96 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | avg 0b_1x1:96"
V4_B = (
    "0a_1x1:384 | 0a_1x1:192 0b_1x7:224 0c_7x1:256 "
    "| 0a_1x1:192 0b_7x1:192 0c_1x7:224 0d_7x1:224 0e_1x7:256 | avg 0b_1x1:128"
)
V4_C = (
    "0a_1x1:256 | 0a_1x1:384 0b_1x3:256+0c_3x1:256 "
    "| 0a_1x1:384 0b_3x1:448 0c_1x3:512 0d_1x3:256+0e_3x1:256 | avg 0b_1x1:256"
)


def inception_v4(slim: Slim, x: X, classes: int, aux: bool = True) -> list[X]:
    x = slim.conv(x, "Conv2d_1a_3x3", 32, 3, 2, "VALID")
    x = slim.conv(x, "Conv2d_2a_3x3", 32, 3, 1, "VALID")
    x = slim.conv(x, "Conv2d_2b_3x3", 64, 3)
    x = slim.mixed(x, "Mixed_3a", "max/2! | 0a_3x3:96/2!")
    x = slim.mixed(x, "Mixed_4a", "0a_1x1:64 1a_3x3:96! | 0a_1x1:64 0b_1x7:64 0c_7x1:64 1a_3x3:96!")
    x = slim.mixed(x, "Mixed_5a", "1a_3x3:192/2! | max/2!")
    for letter in "bcde":
        x = slim.mixed(x, f"Mixed_5{letter}", V4_A)
    x = slim.mixed(x, "Mixed_6a", "1a_3x3:384/2! | 0a_1x1:192 0b_3x3:224 1a_3x3:256/2! | max/2!")
    for letter in "bcdefgh":
        x = slim.mixed(x, f"Mixed_6{letter}", V4_B)
    features = slim.flat(aux_features(slim, x, "Conv2d_2a")) if aux else None
    reduction = "0a_1x1:192 1a_3x3:192/2! | 0a_1x1:256 0b_1x7:256 0c_7x1:320 1a_3x3:320/2! | max/2!"
    x = slim.mixed(x, "Mixed_7a", reduction)
    for letter in "bcd":
        x = slim.mixed(x, f"Mixed_7{letter}", V4_C)
    out = [slim.dense(slim.flat(slim.mean(x)), "Logits/Logits", classes)]
    return [*out, slim.dense(features, "AuxLogits/Aux_logits", classes)] if aux else out


def residual(slim: Slim, x: X, scope: str, text: str, scale: float, relu: bool = True) -> X:
    y = slim.mixed(x, scope, text)
    y = slim.conv(y, f"{scope}/Conv2d_1x1", channels(x), 1, norm=False, relu=False)
    x = slim.add(x, y, scale)
    return slim.relu(x) if relu else x


def repeated(slim: Slim, x: X, scope: str, count: int, text: str, scale: float) -> X:
    for i in range(1, count + 1):
        x = residual(slim, x, f"{scope}_{i}", text, scale)
    return x


REDUCTION_A = "1a_3x3:384/2! | 0a_1x1:{} 0b_3x3:{} 1a_3x3:{}/2! | max/2!".format
REDUCTION_B = (
    "0a_1x1:256 1a_3x3:384/2! | 0a_1x1:256 1a_3x3:{}/2! | 0a_1x1:256 0b_3x3:{} 1a_3x3:{}/2! | max/2!".format
)


def inception_resnet_v1(slim: Slim, x: X, classes: int, embedding: int = 128) -> list[X]:
    """facenet's: the mean features; then an embedding, and logits in no scope of the network."""
    x = stem_v3(slim, x)
    x = slim.conv(x, "Conv2d_4b_3x3", 256, 3, 2, "VALID")
    block = "1x1:32 | 0a_1x1:32 0b_3x3:32 | 0a_1x1:32 0b_3x3:32 0c_3x3:32"
    x = repeated(slim, x, "Repeat/block35", 5, block, 0.17)
    x = slim.mixed(x, "Mixed_6a", REDUCTION_A(192, 192, 256))
    x = repeated(slim, x, "Repeat_1/block17", 10, "1x1:128 | 0a_1x1:128 0b_1x7:128 0c_7x1:128", 0.1)
    x = slim.mixed(x, "Mixed_7a", REDUCTION_B(256, 256, 256))
    block = "1x1:192 | 0a_1x1:192 0b_1x3:192 0c_3x1:192"
    x = repeated(slim, x, "Repeat_2/block8", 5, block, 0.2)
    x = slim.flat(slim.mean(residual(slim, x, "Block8", block, 1.0, relu=False)))
    embedded = slim.dense(x, "Bottleneck", embedding, norm=True)
    return [x, slim.dense(embedded, "Logits", classes, top="")]


def inception_resnet_v2(slim: Slim, x: X, classes: int, aux: bool = True) -> list[X]:
    x = slim.pool(stem_v3(slim, x), "max", 3, 2, "VALID")
    module = "1x1:96 | 0a_1x1:48 0b_5x5:64 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | avg 0b_1x1:64"
    x = slim.mixed(x, "Mixed_5b", module)
    block = "1x1:32 | 0a_1x1:32 0b_3x3:32 | 0a_1x1:32 0b_3x3:48 0c_3x3:64"
    x = repeated(slim, x, "Repeat/block35", 10, block, 0.17)
    x = slim.mixed(x, "Mixed_6a", REDUCTION_A(256, 256, 384))
    x = repeated(slim, x, "Repeat_1/block17", 20, "1x1:192 | 0a_1x1:128 0b_1x7:160 0c_7x1:192", 0.1)
    features = slim.flat(aux_features(slim, x, "Conv2d_2a_5x5")) if aux else None
    x = slim.mixed(x, "Mixed_7a", REDUCTION_B(288, 288, 320))
    block = "1x1:192 | 0a_1x1:192 0b_1x3:224 0c_3x1:256"
    x = repeated(slim, x, "Repeat_2/block8", 9, block, 0.2)
    x = residual(slim, x, "Block8", block, 1.0, relu=False)
    x = slim.conv(x, "Conv2d_7b_1x1", 1536, 1)
    out = [slim.dense(slim.flat(slim.mean(x)), "Logits/Logits", classes)]
    return [*out, slim.dense(features, "AuxLogits/Logits", classes)] if aux else out


@dataclass(frozen=True)
class Network:
    """A network of slim's.

    Attributes:
        scope: Of all its variables.
        play: Its layers, `(slim, x, classes) -> [logits, further logits]`.
        classes: Of the published checkpoint: 1001 with the background in front.
        epsilon: Of batch normalization.
        scale: Whether batch normalization has a gamma.
    """

    scope: str
    play: Callable[..., list[X]]
    classes: int = 1001
    epsilon: float = 1e-3
    scale: bool = False


DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
NETWORKS = {
    **{
        f"resnet_v1_{n}": Network(f"resnet_v1_{n}", partial(resnet_v1, depths=depths), 1000, 1e-5, True)
        for n, depths in DEPTHS.items()
    },
    **{
        f"resnet_v2_{n}": Network(f"resnet_v2_{n}", partial(resnet_v2, depths=depths), 1001, 1e-5, True)
        for n, depths in DEPTHS.items()
    },
    "inception_v1": Network("InceptionV1", inception_v1),
    "inception_v2": Network("InceptionV2", inception_v2),
    "inception_v3": Network("InceptionV3", inception_v3),
    "inception_v4": Network("InceptionV4", inception_v4),
    "inception_resnet_v1": Network("InceptionResnetV1", inception_resnet_v1, 10),
    "inception_resnet_v2": Network("InceptionResnetV2", inception_resnet_v2),
    "vgg_16": Network("vgg_16", partial(vgg, depths=(2, 2, 3, 3, 3)), 1000),
    "vgg_19": Network("vgg_19", partial(vgg, depths=(2, 2, 4, 4, 4)), 1000),
}


def variables(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a checkpoint's weights."""
    network = NETWORKS[name]
    slim = Slim(network.scope, network.epsilon, network.scale)
    network.play(slim, 3, network.classes)
    return slim.shapes


def logits(
    name: str, values: dict[str, np.ndarray], images: np.ndarray, **arguments: Any
) -> list[np.ndarray]:
    """The scores that slim's network computes of images with the values of a checkpoint."""
    network = NETWORKS[name]
    slim = Slim(network.scope, network.epsilon, network.scale, values)
    return [out.numpy() for out in network.play(slim, tf.constant(images), network.classes, **arguments)]
