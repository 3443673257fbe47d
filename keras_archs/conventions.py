"""What a weight lineage fixes: the numbers and names that a published file silently assumes.

The same architecture exists in several lineages whose files have equal shapes and different arithmetic. A
`Convention` holds every such difference, so that a builder never contains one.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """The arithmetic and the layer names of one lineage of weights.

    Attributes:
        name: Lineage.
        bias: Whether a convolution that batch normalization follows has a bias too. One without normalization
            always has.
        epsilon: Added to the variance in batch normalization.
        momentum: Share of the old moving statistics kept at each training step.
        gamma: Whether batch normalization has a learned scale.
        shortcut_first: Operand order of the residual Add. Keras sorts layers of equal depth by it, and files
            are read in that order: swapped operands load silently into the wrong layers.
        suffixes: Appended to a unit's name for its convolution, normalization and activation.
    """

    name: str
    bias: bool
    epsilon: float
    momentum: float = 0.99
    gamma: bool = True
    shortcut_first: bool = True
    suffixes: tuple[str, str, str] = ("_conv", "_bn", "_relu")


# keras/src/applications/resnet.py: every convolution of v1 is biased, although normalization follows.
KERAS_RESNET = Convention("keras", bias=True, epsilon=1.001e-5)
# The same file, v2: a bias exactly where no normalization follows.
KERAS_RESNET_V2 = Convention("keras", bias=False, epsilon=1.001e-5)
# keras/src/applications/inception_v3.py.
KERAS_INCEPTION = Convention("keras", bias=False, epsilon=1e-3, gamma=False)
# keras/src/applications/inception_resnet_v2.py names a unit's convolution without a suffix.
KERAS_INCEPTION_RESNET = Convention(
    "keras", bias=False, epsilon=1e-3, gamma=False, suffixes=("", "_bn", "_ac")
)
# keras/src/applications/xception.py adds the shortcut last.
KERAS_XCEPTION = Convention(
    "keras", bias=False, epsilon=1e-3, shortcut_first=False, suffixes=("", "_bn", "_act")
)
# keras/src/applications/vgg16.py: no normalization at all, so bias and epsilon never apply.
KERAS_VGG = Convention("keras", bias=True, epsilon=1e-3, suffixes=("", "_bn", "_relu"))
# torchvision and timm: bias-free convolutions, symmetric padding, PyTorch's BatchNorm2d defaults.
TORCH_RESNET = Convention("torch", bias=False, epsilon=1e-5, momentum=0.9)
