"""What a weight lineage fixes: the numbers and names that a published file silently assumes.

The same architecture exists in several lineages whose files have equal shapes and different arithmetic. A
`Convention` holds every such difference, so that a builder never contains one.
"""

from dataclasses import dataclass, replace
from typing import Literal

Padding = Literal["same", "valid", "explicit", "infinite", "ceil", "reflect", "lineage"]


@dataclass(frozen=True)
class Convention:
    """The arithmetic and the layer names of one lineage of weights.

    Attributes:
        name: Lineage: "keras" (keras.applications), "torch" (torchvision and timm), "slim" (TF-slim) or
            "paper" (no published weights).
        preprocessing: Mode of `preprocess_input` that the lineage trains with.
        bias: Which convolutions have a bias: "always", "without_norm" (where no normalization follows) or
            "never".
        epsilon: Added to the variance in normalization.
        momentum: Share of the old moving statistics kept at each training step.
        gamma: Whether batch normalization has a learned scale.
        shortcut_first: Operand order of the residual Add. Keras sorts layers of equal depth by it, and files
            are read in that order: swapped operands load silently into the wrong layers.
        suffixes: Appended to a unit's name for its convolution, normalization and activation.
        stride_in: Convolution of a bottleneck that strides: its "first" 1x1 (v1) or the "spatial" 3x3 (v1.5).
        stride_unit: Block of a stage that strides: the "first" of the stage, or the "last" of the one before.
        pad: Padding of strided convolutions: "explicit" pads both sides alike, "same" as TensorFlow does.
        max_pad: Padding of max pools: "explicit" (zeros), "infinite" (minus infinity), "same", "ceil".
        average_pad: Padding of 3x3 average pools of stride 1: "same" leaves the edge out of the average,
            "explicit" counts zeros in.
        normalizes: Whether there is any normalization.
        groups: Groups of group normalization, 0 for batch normalization.
        standardize: Epsilon of weight standardisation; None for plain convolutions.
        class_offset: Classes in front of ImageNet's thousand (slim's background).
        zero_last: Whether the last scale of a residual function, or its last kernel where no scale follows,
            starts at zero.
    """

    name: str
    preprocessing: str
    bias: Literal["always", "without_norm", "never"]
    epsilon: float
    momentum: float = 0.99
    gamma: bool = True
    shortcut_first: bool = True
    suffixes: tuple[str, str, str] = ("_conv", "_bn", "_relu")
    stride_in: Literal["first", "spatial"] = "spatial"
    stride_unit: Literal["first", "last"] = "first"
    pad: Padding = "explicit"
    max_pad: Padding = "explicit"
    average_pad: Padding = "same"
    normalizes: bool = True
    groups: int = 0
    standardize: float | None = None
    class_offset: int = 0
    zero_last: bool = False


# keras/src/applications/resnet.py: every convolution of v1 is biased, although normalization follows.
KERAS_RESNET = Convention("keras", "caffe", "always", 1.001e-5, stride_in="first")
# The same file, v2: a bias exactly where no normalization follows, zeros around the stem's max pool.
KERAS_RESNET_V2 = Convention("keras", "tf", "without_norm", 1.001e-5, stride_unit="last")
# keras/src/applications/inception_v3.py.
KERAS_INCEPTION = Convention("keras", "tf", "without_norm", 1e-3, gamma=False, pad="same", max_pad="same")
# keras/src/applications/inception_resnet_v2.py names a unit's convolution without a suffix.
KERAS_INCEPTION_RESNET = replace(KERAS_INCEPTION, suffixes=("", "_bn", "_ac"))
# keras/src/applications/xception.py adds the shortcut last.
KERAS_XCEPTION = Convention(
    "keras",
    "tf",
    "without_norm",
    1e-3,
    shortcut_first=False,
    suffixes=("", "_bn", "_act"),
    max_pad="same",
)
# keras/src/applications/vgg16.py: no normalization at all, so epsilon never applies.
KERAS_VGG = Convention("keras", "caffe", "always", 1e-3, suffixes=("", "_bn", "_relu"))

# torchvision/models/resnet.py, timm/models/resnet.py: the stride in the 3x3 (v1.5), BatchNorm2d's defaults.
TORCH_RESNET = Convention("torch", "torch", "without_norm", 1e-5, 0.9)
# The same with GroupNorm(32) of PyTorch's default epsilon (timm's resnet50_gn).
TORCH_RESNET_GN = replace(TORCH_RESNET, groups=32)
# timm/models/resnetv2.py: no bias anywhere; MaxPool2d pads un-activated features with minus infinity.
TORCH_RESNET_V2 = Convention("torch", "tf", "never", 1e-5, 0.9, max_pad="infinite")
TORCH_RESNET_V2_GN = replace(TORCH_RESNET_V2, groups=32)
# The same file: BiT pads its stem pool with zeros; StdConv2d with epsilon 1e-8.
TORCH_BIT = replace(TORCH_RESNET_V2_GN, max_pad="explicit", standardize=1e-8)
# torchvision/models/googlenet.py: epsilon of BasicConv2d, ceil_mode pools without padding.
TORCH_GOOGLENET = Convention("torch", "tf", "without_norm", 1e-3, 0.9, max_pad="ceil")
# torchvision/models/inception.py, timm/models/inception_v3.py: F.avg_pool2d counts the padding.
TORCH_INCEPTION_V3 = Convention("torch", "tf", "without_norm", 1e-3, 0.9, average_pad="explicit")
# timm/models/inception_v4.py and inception_resnet_v2.py: count_include_pad=False.
TORCH_INCEPTION = Convention("torch", "tf", "without_norm", 1e-3, 0.9)
TORCH_INCEPTION_RESNET = replace(TORCH_INCEPTION, suffixes=("", "_bn", "_ac"))
# timm/models/xception.py (legacy_xception): BatchNorm2d's epsilon, MaxPool2d(3, 2, 1) on any sign.
TORCH_XCEPTION = replace(KERAS_XCEPTION, name="torch", epsilon=1e-5, momentum=0.9, max_pad="infinite")
# timm/models/xception_aligned.py; 41p keeps BatchNorm2d's epsilon, the others have TensorFlow's.
TORCH_ALIGNED = Convention("torch", "tf", "never", 1e-3, 0.9, suffixes=("", "_bn", "_act"))
TORCH_ALIGNED_41P = replace(TORCH_ALIGNED, epsilon=1e-5)
# torchvision/models/vgg.py: biases beside batch normalization, too.
TORCH_VGG = Convention("torch", "torch", "always", 1e-5, 0.9, suffixes=("", "_bn", "_relu"))

# research/slim/nets/resnet_v1.py: conv2d_same pads both sides, max pools are SAME, the last unit strides.
SLIM_RESNET = Convention(
    "slim", "slim", "without_norm", 1e-5, 0.997, stride_unit="last", pad="explicit", max_pad="same"
)
# research/slim/nets/resnet_v2.py: 1001 classes.
SLIM_RESNET_V2 = replace(SLIM_RESNET, preprocessing="tf", class_offset=1)
# research/slim/nets/inception_utils.py: batch normalization without scale, SAME everywhere, 1001 classes.
SLIM_INCEPTION = Convention(
    "slim", "tf", "without_norm", 1e-3, 0.9997, gamma=False, pad="same", max_pad="same", class_offset=1
)
SLIM_INCEPTION_RESNET = replace(SLIM_INCEPTION, suffixes=("", "_bn", "_ac"))
# facenet's inception_resnet_v1.py: slim's layers, its own decay, no thousand classes of ImageNet to offset.
FACENET_INCEPTION_RESNET = replace(SLIM_INCEPTION_RESNET, momentum=0.995, class_offset=0)
SLIM_VGG = replace(KERAS_VGG, name="slim", preprocessing="slim")

# He et al. (2015), section 4.2: CIFAR networks; no file is published, the numbers are PyTorch's.
CIFAR = replace(TORCH_RESNET, name="paper", preprocessing="tf")
CIFAR_PREACT = replace(CIFAR, bias="never")
# Szegedy et al. (2014): no batch normalization, a bias everywhere, Caffe's ceiling pools and BGR means.
PAPER_GOOGLENET = Convention("paper", "caffe", "always", 1e-3, max_pad="ceil", normalizes=False)
