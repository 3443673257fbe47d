import io

import numpy as np
import pytest
from PIL import Image

from keras_archs.training import images
from keras_archs.training.images import check_image, read_image


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (40, 255), (40, 40, 40)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, color, expected):
    Image.new(mode, (12, 12), color).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all()


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("RGB", (16, 16), (200, 50, 50)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg", 8).astype(int) - (200, 50, 50)).max() <= 3


def test_palette_with_transparency_is_put_on_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    pixels = read_image(tmp_path / "a.png", 8)
    assert tuple(pixels[0, 0]) == (0, 255, 0)
    assert tuple(pixels[5, 5]) == (255, 255, 255)


def test_exif_orientation_is_respected(tmp_path):
    image = Image.new("RGB", (16, 16), "black")
    image.paste("white", (0, 0, 16, 8))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to see it upright: the upper half is the right one
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = read_image(tmp_path / "a.jpg", 16)
    assert pixels[:, 10:].min() > 200
    assert pixels[:, :6].max() < 50


def test_the_middle_square_is_kept_in_proportion(tmp_path):
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (10, 0, 30, 20))
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 10)[:, 1:-1] == (0, 0, 255)).all()


def test_the_fast_jpeg_path_gives_nearly_the_same_pixels(tmp_path):
    x, y = np.meshgrid(np.linspace(0, 255, 128), np.linspace(0, 255, 128))
    Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    whole = Image.open(tmp_path / "a.jpg").resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(read_image(tmp_path / "a.jpg", 32).astype(int) - np.asarray(whole)).max() <= 3


def test_bytes_and_whole_images_are_read_too(tmp_path):
    Image.new("RGB", (30, 20), (10, 20, 30)).save(tmp_path / "a.png")
    stream = io.BytesIO((tmp_path / "a.png").read_bytes())
    pixels = read_image(stream)
    assert pixels.shape == (20, 30, 3)
    assert (pixels == (10, 20, 30)).all()
    np.testing.assert_array_equal(read_image(stream, 8), read_image(tmp_path / "a.png", 8))


def test_whole_images_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (30, 20, 3)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp"])
def test_of_large_data_sets_only_what_does_not_end_well_is_decoded(monkeypatch, kind):
    def refuse(stream, size):
        raise AssertionError("decoded")

    monkeypatch.setattr(images, "read_image", refuse)
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, kind)
    if kind != "bmp":  # whose end looks like anything
        assert check_image(stream, None) == (kind == "jpeg")
        stream.write(b"more")
    if kind != "webp":  # which says how long it is
        with pytest.raises(AssertionError, match="decoded"):
            check_image(stream, None)
