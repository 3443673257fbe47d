"""One encoded image to one array of pixels: the same for checking, training and calibration."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
ORIENTATION = 0x0112  # the EXIF tag; 2 to 8 say how to turn or mirror


class DamagedImageError(ValueError):
    """An image cannot be decoded; the message names it."""


def read_image(source: str | Path | BinaryIO, size: int | None = None) -> np.ndarray:
    """Read an image upright and in RGB, whole or as its middle square.

    Args:
        source: The file, or a stream that can seek. Its content decides the format, not a suffix.
        size: Scale the short side to this many pixels and cut the middle square out; None keeps the whole
            image as it is.

    Returns:
        Pixels 0..255 as uint8, shape (size, size, 3), or (H, W, 3) of the whole image.

    Raises:
        Exception: Whatever Pillow raises for a damaged file; its plug-ins are not consistent.
    """
    from PIL import Image, ImageOps

    with Image.open(source) as image:
        if size is not None:
            # JPEG can decode at 1/2, 1/4 or 1/8 for a fraction of the time; twice the size keeps the quality.
            image.draft(None, (2 * size, 2 * size))
        upright = _to_rgb(ImageOps.exif_transpose(image))
    if size is not None:
        upright = ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(upright)


def check_image(stream: BinaryIO, size: int | None) -> bool:
    """Find out whether an image is damaged, and whether TensorFlow's JPEG decoder gives the pixels we want.

    Args:
        stream: The encoded image; it must be able to seek.
        size: Decode the image, at this size, which finds everything; None reads the header and looks for the
            end, which is cheap, and decodes only what does not end as it should.

    Returns:
        Whether it is a JPEG in RGB or grey that no EXIF tag rotates.

    Raises:
        Exception: Whatever Pillow raises for a damaged file.
    """
    from PIL import Image

    with Image.open(stream) as image:
        plain = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
        plain = plain and image.getexif().get(ORIENTATION, 1) not in range(2, 9)
        ends_well = ENDINGS.get(image.format or "")
    if size is not None or ends_well is None or not ends_well(stream):
        read_image(stream, size)
    return plain


def why_unreadable(source: str | Path | bytes, error: Exception) -> str:
    """Say in a few words what is wrong with an image.

    Args:
        source: The file, or its content.
        error: What reading it raised.

    Returns:
        "empty file" or the error's name and text.
    """
    from PIL import UnidentifiedImageError

    if not source if isinstance(source, bytes) else _is_empty(source):
        return "empty file"
    # Pillow's own text shows the address of an object in memory
    text = "no image" if isinstance(error, UnidentifiedImageError) else error
    return f"{type(error).__name__}: {text}"


def _is_empty(path: str | Path) -> bool:
    """Tell whether a path is a file without content."""
    return Path(path).is_file() and Path(path).stat().st_size == 0


def _tail(stream: BinaryIO) -> bytes:
    """The last bytes of a stream."""
    stream.seek(-min(12, stream.seek(0, os.SEEK_END)), os.SEEK_END)
    return stream.read()


# Does a file end as its format says? Formats that are not here are decoded to know.
ENDINGS: dict[str, Callable[[BinaryIO], bool]] = {
    "JPEG": lambda stream: _tail(stream).endswith(b"\xff\xd9"),
    "MPO": lambda stream: _tail(stream).endswith(b"\xff\xd9"),
    "PNG": lambda stream: _tail(stream).endswith(b"IEND\xaeB`\x82"),
    "WEBP": lambda stream: True,  # Pillow has compared lengths when it opened it
}


def _to_rgb(image: "Image.Image") -> "Image.Image":
    """Convert any mode to RGB: white behind transparency, 16-bit grey scaled down instead of clipped."""
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return image.convert("RGB")
