"""The files that Keras publishes for the eleven models that it ships.

Names and hashes as in keras/src/applications of Keras 3.15.1; trained on ImageNet-1k, 1000 classes.
"""

from dataclasses import dataclass

import keras

from keras_archs.weights.keras_files import WeightsError

BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclass(frozen=True)
class Published:
    """Two files of one model: with and without the classifier.

    Attributes:
        folder: Folder below `BASE_URL`.
        stem: First part of the file name.
        top_md5: Hash of the file with the classifier.
        notop_md5: Hash of the file without.
    """

    folder: str
    stem: str
    top_md5: str
    notop_md5: str

    def file(self, include_top: bool) -> tuple[str, str]:
        """Name and MD5 of one of the two files."""
        end = "" if include_top else "_notop"
        name = f"{self.stem}_weights_tf_dim_ordering_tf_kernels{end}.h5"
        return name, self.top_md5 if include_top else self.notop_md5


PUBLISHED = {
    "resnet50": Published(
        "resnet", "resnet50", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"
    ),
    "resnet101": Published(
        "resnet", "resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"
    ),
    "resnet152": Published(
        "resnet", "resnet152", "100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"
    ),
    "resnet50v2": Published(
        "resnet", "resnet50v2", "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"
    ),
    "resnet101v2": Published(
        "resnet", "resnet101v2", "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"
    ),
    "resnet152v2": Published(
        "resnet", "resnet152v2", "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"
    ),
    "inception_v3": Published(
        "inception_v3", "inception_v3", "9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"
    ),
    "inception_resnet_v2": Published(
        "inception_resnet_v2",
        "inception_resnet_v2",
        "e693bd0210a403b3192acc6073ad2e96",
        "d19885ff4a710c122648d3b5c3b684e4",
    ),
    "xception": Published(
        "xception", "xception", "0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"
    ),
    "vgg16": Published(
        "vgg16", "vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"
    ),
    "vgg19": Published(
        "vgg19", "vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"
    ),
}


def download(model: str, include_top: bool) -> str:
    """Path of the published file of a model, from Keras' cache or downloaded into it.

    Args:
        model: Key of `PUBLISHED`.
        include_top: Which of the two files.

    Returns:
        Path of the file, its MD5 checked.

    Raises:
        WeightsError: If it can't be downloaded, or if its hash is wrong.
    """
    entry = PUBLISHED[model]
    name, md5 = entry.file(include_top)
    return fetch(name, f"{BASE_URL}{entry.folder}/{name}", md5)


def fetch(name: str, url: str, md5: str) -> str:
    """Path of a file in the folder `models` of Keras' cache, downloaded if it is missing.

    Args:
        name: Name in the cache.
        url: Where it is published.
        md5: Its hash.

    Returns:
        The path, the hash checked.

    Raises:
        WeightsError: If it can't be downloaded, or if its hash is wrong.
    """
    try:
        return keras.utils.get_file(name, url, cache_subdir="models", file_hash=md5)
    except Exception as error:  # get_file raises bare Exception for a failed download
        raise WeightsError(
            f"{name}: {error} Without a connection, put the file (MD5 {md5}) into the folder `models` of "
            "Keras' cache (KERAS_HOME, by default ~/.keras)."
        ) from error
