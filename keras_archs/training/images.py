"""One image file to one array of pixels: the same for checking, training and calibration."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


def read_image(path: str | Path, size: int) -> np.ndarray:
    """Read an image upright and in RGB; scale the short side to `size` and cut the middle square out.

    Args:
        path: The file. Its content decides the format, not its suffix.
        size: Side of the square in pixels.

    Returns:
        Pixels 0..255 as uint8, shape (size, size, 3).

    Raises:
        Exception: Whatever Pillow raises for a damaged file; its plug-ins are not consistent.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        # JPEG can decode at 1/2, 1/4 or 1/8 for a fraction of the time; twice the size keeps the quality.
        image.draft(None, (2 * size, 2 * size))
        upright = ImageOps.exif_transpose(image)
    square = ImageOps.fit(_to_rgb(upright), (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square)


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Say in a few words what is wrong with a file.

    Args:
        path: The file.
        error: What reading it raised.

    Returns:
        "empty file" or the error's name and text.
    """
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        return "empty file"
    return f"{type(error).__name__}: {error}"


def _to_rgb(image: "Image.Image") -> "Image.Image":
    """Convert any mode to RGB: white behind transparency, 16-bit grey scaled down instead of clipped."""
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return image.convert("RGB")
