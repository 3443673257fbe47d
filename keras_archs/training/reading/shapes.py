"""Pictures of ten shapes, drawn by number: any size, as many as needed, for experiments and load."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from keras_archs.training.calls import call
from keras_archs.training.progress import tracked
from keras_archs.training.reading.source import CACHE_BYTES, Pixels, Source

if TYPE_CHECKING:
    import tensorflow as tf
    from PIL import Image, ImageDraw

DEFAULT_COUNT = 5000
CONTRAST = 70  # least difference of brightness, 0..255, between a shape and its background
LUMA = np.array([0.299, 0.587, 0.114])
DRAWN_AT = 128  # masks are drawn with at least this many pixels a side, then scaled down: smooth edges
STROKES = 6  # at most so many things clutter the background

Point = tuple[float, float]


def _regular(corners: int) -> tuple[Point, ...]:
    """Corners of a regular polygon, the first one on top."""
    turns = [2 * math.pi * corner / corners for corner in range(corners)]
    return tuple((math.sin(turn), -math.cos(turn)) for turn in turns)


def _star(points: int, inner: float) -> tuple[Point, ...]:
    """Tips on the unit circle, notches on a smaller one."""
    corners = _regular(2 * points)
    return tuple(
        (x * radius, y * radius) for (x, y), radius in zip(corners, (1, inner) * points, strict=True)
    )


ARM = 0.32  # half the width of a cross' arm
POLYGONS = {
    "square": _regular(4),
    "triangle": _regular(3),
    "pentagon": _regular(5),
    "hexagon": _regular(6),
    "star": _star(5, 0.4),
    "cross": (
        *((-ARM, -1), (ARM, -1), (ARM, -ARM), (1, -ARM), (1, ARM), (ARM, ARM)),
        *((ARM, 1), (-ARM, 1), (-ARM, ARM), (-1, ARM), (-1, -ARM), (-ARM, -ARM)),
    ),
    "arrow": ((0, -1), (0.75, -0.1), (0.25, -0.1), (0.25, 1), (-0.25, 1), (-0.25, -0.1), (-0.75, -0.1)),
}
# Discs as (distance of the centre, radius, ink), painted in this order.
DISCS = {
    "circle": ((0.0, 1.0, 255),),
    "ring": ((0.0, 1.0, 255), (0.0, 0.6, 0)),
    "crescent": ((0.0, 1.0, 255), (0.5, 0.8, 0)),
}
CLASS_NAMES = (*DISCS, *POLYGONS)


def shape_labels(count: int) -> np.ndarray:
    """Give the classes of the first images.

    Args:
        count: How many.

    Returns:
        0, 1, ..., 9, 0, 1, ... as int32, shape (count,).
    """
    return np.arange(count, dtype=np.int32) % len(CLASS_NAMES)


def draw_shape(index: int, size: int, seed: int) -> np.ndarray:
    """Draw one image.

    Args:
        index: Its number; the last digit is its class.
        size: Side in pixels.
        seed: Other seeds give other images.

    Returns:
        Pixels as uint8, shape (size, size, 3).
    """
    from PIL import Image

    random = np.random.default_rng((seed, index))
    behind, front = pick_colors(random)
    picture = Image.new("RGB", (size, size), tuple(behind))
    _clutter(picture, behind, random)
    picture.paste(tuple(front), mask=_mask(CLASS_NAMES[index % len(CLASS_NAMES)], size, random))
    return _light_and_noise(np.asarray(picture), random)


def pick_colors(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pick two colours whose brightness differs by `CONTRAST` at least.

    Args:
        random: Where chance comes from.

    Returns:
        The colours of background and shape, integers 0..255, shape (3,) each.
    """
    behind = random.integers(0, 256, 3)
    # Black or white is far enough from any colour: there is always a choice.
    choices = np.concatenate([random.integers(0, 256, (32, 3)), [[0] * 3, [255] * 3]])
    differs = np.abs((choices - behind) @ LUMA) >= CONTRAST
    return behind, choices[np.argmax(differs)]


def _mask(name: str, size: int, random: np.random.Generator) -> "Image.Image":
    """Draw a shape, somewhere in the picture, large on a fine grid and scaled down."""
    from PIL import Image, ImageDraw

    fine = size * max(2, -(-DRAWN_AT // size))
    radius = fine * random.uniform(0.2, 0.42)
    x, y = random.uniform(radius, fine - radius, 2)
    turn = random.uniform(0, 2 * math.pi)
    sine, cosine = radius * math.sin(turn), radius * math.cos(turn)
    mask = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(mask)
    if name in POLYGONS:
        draw.polygon([(x + cosine * u - sine * v, y + sine * u + cosine * v) for u, v in POLYGONS[name]], 255)
    else:
        for distance, share, ink in DISCS[name]:
            draw.circle((x + cosine * distance, y + sine * distance), radius * share, ink)
    return mask.reduce(fine // size)


def _clutter(picture: "Image.Image", behind: np.ndarray, random: np.random.Generator) -> None:
    """Draw a few small things in colours near the background's: none is as large or as clear as the shape."""
    from PIL import ImageDraw

    size = picture.width
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(STROKES + 1)):
        x, y, u, v = (random.uniform(0, size, 4) * (1, 1, 0.2, 0.2)).tolist()
        color = tuple((behind + random.integers(-50, 51, 3)).clip(0, 255).tolist())
        KINDS[random.integers(len(KINDS))](draw, (x, y, x + u, y + v), color, max(1, size // 48))


KINDS: tuple[Callable[["ImageDraw.ImageDraw", tuple[float, ...], tuple[int, ...], int], None], ...] = (
    lambda draw, box, color, width: draw.line(box, color, width),
    lambda draw, box, color, width: draw.ellipse(box, color),
    lambda draw, box, color, width: draw.rectangle(box, color),
    lambda draw, box, color, width: draw.arc(box, 0, 270, color, width),
)


def _light_and_noise(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Make it brighter towards a random side and add noise of a random strength."""
    size = len(pixels)
    slope = random.uniform(-25, 25, 2)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = (line[:, None] * slope[0] + line * slope[1])[..., None]
    noise = random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(random.uniform(0, 12))
    return (pixels + light + noise).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Shapes:
    """Shapes that are drawn when they are read.

    Attributes:
        indices: Numbers of the images, shape (N,).
        size: Side in pixels.
        seed: The seed.
    """

    indices: np.ndarray
    size: int
    seed: int
    plain: None = None

    def __len__(self) -> int:
        return len(self.indices)

    def names(self, indices: Iterable[int]) -> list[str]:
        """Give the numbers, for messages."""
        return [f"shape {self.indices[index]}" for index in indices]

    def select(self, indices: np.ndarray) -> "Shapes":
        """Take some of the images, in the order given."""
        return replace(self, indices=self.indices[indices])

    def fingerprint(self) -> bytes:
        """List the numbers that everything depends on."""
        return f"shapes {self.size} {self.seed} ".encode() + self.indices.tobytes()

    def load(self, index: "tf.Tensor") -> "tf.Tensor":
        """Draw an image, (size, size, 3), in a tf.data graph."""
        import tensorflow as tf

        image = call(self.read, [index], tf.uint8)
        return tf.ensure_shape(image, (self.size, self.size, 3))

    def read(self, index: int) -> np.ndarray:
        """Draw an image, (size, size, 3)."""
        return draw_shape(int(self.indices[index]), self.size, self.seed)


def read_shapes(count: int, size: int, seed: int, progress: bool | None) -> Source:
    """Draw shapes into memory, or, if they are many, leave it to the reader to draw them.

    Args:
        count: How many.
        size: Side in pixels.
        seed: The seed.
        progress: Whether to show a bar.

    Returns:
        The images.
    """
    drawn = Shapes(np.arange(count), size, seed)
    if count * size * size * 3 > CACHE_BYTES:
        return Source(drawn, shape_labels(count), CLASS_NAMES)
    pixels = np.empty((count, size, size, 3), np.uint8)
    for index in tracked(range(count), count, "drawing shapes", progress):
        pixels[index] = drawn.read(index)
    return Source(Pixels(pixels), shape_labels(count), CLASS_NAMES)
