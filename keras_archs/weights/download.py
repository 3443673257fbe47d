"""Downloads: the files of the manifest, kept in the caches of Keras and of the Hugging Face hub.

A file that is in its cache needs no connection. Every file is checked against its hash, also one that was
there already. Nothing is tried twice.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path

import keras

from keras_archs.weights.entries import Entry
from keras_archs.weights.errors import WeightsError

BASE_URLS = {
    "keras": "https://storage.googleapis.com/tensorflow/keras-applications/",
    "timm": "https://github.com/rwightman/pytorch-image-models/releases/download/",
    "torchvision": "https://download.pytorch.org/models/",
}
HUB_FILE = "model.safetensors"


def download(entry: Entry, include_top: bool = True) -> Path:
    """The file of an entry, from the cache or downloaded into it.

    Args:
        entry: One of `entries()`.
        include_top: False for the smaller file without the classifier, where there is one.

    Returns:
        Its path, the hash checked.

    Raises:
        WeightsError: If it can't be downloaded, or if its hash is wrong.
    """
    file, expected = entry.file, entry.hash
    if entry.notop and not include_top:
        file, expected = entry.notop, entry.notop_hash
    if not expected:
        return _from_hub(file)
    name, url = file.rpartition("/")[2], BASE_URLS[entry.source] + file
    algorithm, digest = expected.split(":")
    if algorithm == "md5":
        return Path(fetch(name, url, digest))
    return _from_url(name, url, digest)


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


def _from_url(name: str, url: str, digits: str) -> Path:
    """A file of which only the first digits of the SHA-256 are known, which `get_file` can't check."""
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    path = folder / name
    try:
        if path.is_file() and _sha256(path).startswith(digits):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            new = Path(keras.utils.get_file(name, url, cache_dir=beside, cache_subdir=""))
            found = _sha256(new)
            if not found.startswith(digits):
                raise ValueError(f"{url} has the SHA-256 {found}, not {digits}...")
            return new.replace(path)
    except Exception as error:  # get_file raises bare Exception for a failed download
        raise WeightsError(
            f"{name}: {error} Without a connection, put the file (SHA-256 {digits}...) from {url} "
            f"into {folder}."
        ) from error


def _from_hub(repository: str) -> Path:
    """A file in the hub's cache, where it is a link to a blob that is named after its SHA-256."""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise WeightsError(f"{repository}: pip install huggingface_hub to download it.") from error
    try:
        try:
            path = Path(hf_hub_download(repository, HUB_FILE, local_files_only=True))
        except LocalEntryNotFoundError:
            # Fails at once without a connection; the download would try again for half a minute.
            get_hf_file_metadata(hf_hub_url(repository, HUB_FILE))
            path = Path(hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # of the hub, of its HTTP client, of the file system
        raise WeightsError(
            f"{repository}: {error} Without a connection, give the path of the file as `weights`; it is "
            f"https://huggingface.co/{repository}/resolve/main/{HUB_FILE}."
        ) from error
    expected, found = path.resolve().name, _sha256(path)
    if re.fullmatch("[0-9a-f]{64}", expected) and found != expected:
        raise WeightsError(
            f"{repository}: {path} has the SHA-256 {found}, not {expected}. Delete {path.resolve()} to "
            "download it again."
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
