"""The signatures that clients call: the same outputs as reading, preprocessing and the Keras model give."""

import struct
from functools import cache
from io import BytesIO

import keras
import numpy as np
import pytest
import tensorflow as tf
from converters_helpers import tiny_cnn
from keras import layers
from PIL import Image, ImageOps

from converters import saved_model
from converters.errors import ConversionError
from converters.runners import SavedModelRunner
from converters.saved_model import Preprocessing, check_loads_alone, export_for_serving, output_names
from keras_archs import preprocess_input
from keras_archs.modes import MODES, Mode
from keras_archs.training.pipeline import read_square
from keras_archs.training.reading import Pixels

SIZE = 24
SHARE = 0.8  # 30 pixels, of which the middle 24 are cut out


@pytest.fixture(autouse=True)
def clean_state():
    """Nothing to clean: the models are made once."""


class Files:
    """Encoded images as `read_square` takes them."""

    def __init__(self, contents):
        self.contents = contents

    def read(self, index):
        return self.contents[index]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder and signatures of a model by its preprocessing; the identity shows what arrives at it."""

    @cache
    def make(mode="caffe", interpolation="bilinear", identity=True):
        image = keras.Input((SIZE, SIZE, 3))
        model = keras.Model(image, layers.Activation("linear")(image)) if identity else network()
        folder = tmp_path_factory.mktemp("model")
        preprocessing = Preprocessing(MODES[mode], SHARE, interpolation)
        export_for_serving(model, (SIZE, SIZE, 3), folder, preprocessing)
        return folder, tf.saved_model.load(str(folder)).signatures

    return make


@cache
def network():
    keras.utils.set_random_seed(0)
    return tiny_cnn(size=SIZE, channels=3)


def photo(height, width):
    """Waves of several lengths, with edges and a little noise."""
    y, x = np.mgrid[:height, :width] / 20
    waves = np.stack([np.sin(3 * x + y), np.sign(np.sin(x * y)), np.sin(x) * np.cos(2 * y)], -1)
    noise = np.random.default_rng(height).normal(0, 5, waves.shape)
    return (128 + 90 * waves + noise).clip(0, 255).astype(np.uint8)


def encoded(pixels, form="JPEG", **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def tagged(orientation, order=">", before=b""):
    """A JPEG with EXIF data made by hand: two entries, the second is the orientation."""
    entries = struct.pack(order + "HHHIHxxHHIHxxI", 2, 0x0100, 3, 1, 7, 0x0112, 3, 1, orientation, 0)
    tiff = (b"MM" if order == ">" else b"II") + struct.pack(order + "HI", 42, 8) + entries
    exif = b"Exif\0\0" + tiff
    return spliced(before + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif)


def spliced(segments):
    plain = encoded(photo(40, 60), quality=90)
    return plain[:2] + segments + plain[2:]


def read(contents):
    return np.stack([read_square(Files(contents), i, SIZE, SHARE) for i in range(len(contents))])


def serve(signatures, name, images):
    [output] = signatures[name](images=tf.constant(images)).values()
    return output.numpy()


def levels_off(got, expected):
    """Largest difference of two results of mode "raw", and the share of values that differ."""
    difference = np.abs(got - expected.astype(np.float32))
    return difference.max(), np.mean(difference > 0)


@pytest.mark.parametrize("mode", MODES)
def test_raw_images_of_the_network_s_size_are_preprocessed_to_the_bit(exported, mode):
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    np.testing.assert_array_equal(
        serve(exported(mode)[1], "serve_raw", images), preprocess_input(images, mode)
    )


# Pillow may scale the height of a tall image first, with another rounding in between; and in enlarging, sums
# that end in exactly one half are frequent.
@pytest.mark.parametrize(
    ("height", "width", "limit"), [(60, 90, 0), (30, 30, 0), (17, 33, 0.05), (91, 61, 0.4), (400, 31, 0.4)]
)
def test_raw_images_of_another_size_are_read_as_an_array(exported, height, width, limit):
    images = np.stack([photo(height, width), photo(height, width)[::-1]])
    expected = np.stack([read_square(Pixels(images), i, SIZE, SHARE) for i in range(2)])
    most, share = levels_off(serve(exported("raw")[1], "serve_raw", images), expected)
    assert most <= 1
    assert share <= limit


def test_files_are_read_as_in_training(exported):
    sizes = [(60, 90), (100, 75), (500, 700), (241, 250), (20, 31), (1000, 600)]
    contents = [encoded(photo(*size), quality=95) for size in sizes]
    contents.append(encoded(photo(50, 70)[..., 0]))  # grey
    contents.append(encoded(photo(50, 70), "PNG"))
    most, share = levels_off(serve(exported("raw")[1], "serve_jpeg", contents), read(contents))
    assert most <= 1
    assert share < 0.1


@pytest.mark.parametrize("identity", [True, False])
def test_all_signatures_agree_with_the_model(exported, identity):
    content = encoded(photo(120, 160), quality=95)
    signatures = exported("torch", identity=identity)[1]
    square = read([content])
    expected = preprocess_input(square, "torch")
    if not identity:
        expected = network()(expected).numpy()
    tolerance = 1e-6 * np.ptp(expected)
    for name, images in (("serve", preprocess_input(square, "torch")), ("serve_raw", square)):
        np.testing.assert_allclose(serve(signatures, name, images), expected, atol=tolerance)
    got = serve(signatures, "serve_jpeg", [content])
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.ptp(expected))
    assert list(signatures) == ["serve", "serve_raw", "serve_jpeg", "serving_default"]


def test_bicubic_is_pillows(exported):
    pixels = np.where(photo(60, 90) > 128, 255, 0).astype(np.uint8)  # it overshoots at edges
    side = round(SIZE / SHARE)
    scaled = np.asarray(ImageOps.fit(Image.fromarray(pixels), (side, side), Image.Resampling.BICUBIC))
    edge = (side - SIZE) // 2
    expected = scaled[None, edge : edge + SIZE, edge : edge + SIZE]
    got = serve(exported("raw", "bicubic")[1], "serve_raw", pixels[None])
    most, share = levels_off(got, expected)
    assert most <= 1
    assert share < 0.01
    assert levels_off(serve(exported("raw")[1], "serve_raw", pixels[None]), expected)[0] > 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_are_turned_upright(exported, order):
    contents = [tagged(orientation, order) for orientation in range(1, 9)]
    expected = read(contents)
    assert len({image.tobytes() for image in expected}) == 8
    most, _ = levels_off(serve(exported("raw")[1], "serve_jpeg", contents), expected)
    assert most <= 1


def test_exif_is_found_behind_other_segments_and_forgiven_when_wrong(exported):
    other = b"\xff\xe1\x00\x22http://ns.adobe.com/xap/1.0/\0abc" + b"\xff\xfe\x00\x05xyz"
    turned, wrong = tagged(6, before=other), tagged(9)
    got = serve(exported("raw")[1], "serve_jpeg", [turned, tagged(6), wrong, tagged(1)])
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[2], got[3])
    assert np.any(got[0] != got[2])


def test_no_exif_data_makes_it_fail(exported):
    random = np.random.default_rng(0)
    contents = []
    for i in range(24):
        lie = bytearray(random.bytes(40))
        lie[:8] = (b"MM\0*", b"II*\0")[i % 2] + lie[4:8]
        size = (48, 2, 9, 65535)[i // 2 % 4]  # too short and too long ones, too
        contents.append(b"\xff\xe1" + struct.pack(">H", size) + b"Exif\0\0" + bytes(lie))
    find = tf.function(saved_model._orientation, input_signature=[tf.TensorSpec((), tf.string)])
    for content in [*contents, b"\xff\xe1", b"\xff", b""]:
        find(b"\xff\xd8" + content)
    turned = tagged(7)
    assert int(find(turned)) == 7
    assert int(find(turned.replace(b"Exif", b"Exit"))) not in range(2, 9)
    tables = turned[: turned.index(b"\xff\xdb")].replace(b"\xff\xe1", b"\xff\xdb")
    assert int(find(tables)) not in range(2, 9)
    plain = encoded(photo(40, 60), quality=90)
    got = serve(exported("raw")[1], "serve_jpeg", [spliced(contents[0]), plain])
    np.testing.assert_array_equal(got[0], got[1])


def test_white_is_put_behind_transparency(exported):
    pixels = np.dstack([photo(60, 90), np.tile(np.arange(90, dtype=np.uint8) * 2, (60, 1))])
    palette = BytesIO()
    image = Image.fromarray(photo(60, 90)).quantize(16)
    image.save(palette, "PNG", transparency=3)
    contents = [encoded(pixels, "PNG"), palette.getvalue()]
    most, share = levels_off(serve(exported("raw")[1], "serve_jpeg", contents), read(contents))
    assert most <= 1
    assert share < 0.01


@pytest.mark.parametrize("bad", [b"", b"\xff", b"GIF89a, or what else there is"])
def test_what_is_no_image_is_named(exported, bad):
    good = encoded(photo(40, 60))
    with pytest.raises(tf.errors.InvalidArgumentError, match="image 1 of the batch is neither"):
        serve(exported()[1], "serve_jpeg", [good, bad, good])


def test_a_damaged_image_is_refused(exported, capfd):
    good = encoded(photo(40, 60))
    for bad in (good[:300], good[: len(good) // 2], encoded(photo(40, 60), "PNG")[:2000]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Invalid (JPEG|PNG)"):
            serve(exported()[1], "serve_jpeg", [good, bad])


def test_any_number_of_images_even_none(exported):
    signatures = exported()[1]  # TensorFlow's own layers do not all take none: see its batch normalization.
    nothing = (0, SIZE, SIZE, 3)
    assert serve(signatures, "serve", np.zeros(nothing, np.float32)).shape == nothing
    assert serve(signatures, "serve_raw", np.zeros((0, 50, 40, 3), np.uint8)).shape == nothing
    assert serve(signatures, "serve_jpeg", np.zeros(0, "S1")).shape == nothing
    signatures = exported(identity=False)[1]
    contents = [encoded(photo(40 + i, 60)) for i in range(5)]
    together = serve(signatures, "serve_jpeg", contents)
    alone = np.concatenate([serve(signatures, "serve_jpeg", [content]) for content in contents])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_rectangular_networks_keep_the_shape_of_things(tmp_path):
    image = keras.Input((20, 30, 3))
    export_for_serving(
        keras.Model(image, layers.Activation("linear")(image)),
        (20, 30, 3),
        tmp_path,
        Preprocessing(MODES["raw"]),
    )
    pixels = photo(50, 60)
    expected = np.asarray(ImageOps.fit(Image.fromarray(pixels), (30, 20), Image.Resampling.BILINEAR))
    got = serve(tf.saved_model.load(str(tmp_path)).signatures, "serve_raw", pixels[None])
    assert levels_off(got, expected[None])[0] <= 1


def ending(*names):
    image = keras.Input((4, 4, 3))
    x = layers.GlobalAveragePooling2D()(image)
    ends = [x if name == "pooling" else layers.Dense(5, activation=name)(x) for name in names]
    return keras.Model(image, ends if len(ends) > 1 else ends[0])


@pytest.mark.parametrize(
    ("ends", "names"),
    [
        (["softmax"], ("probabilities",)),
        (["sigmoid"], ("probabilities",)),
        (["linear"], ("logits",)),
        (["relu"], ("output_0",)),
        (["pooling"], ("output_0",)),
        (["softmax", "linear"], ("output_0", "output_1")),
    ],
)
def test_outputs_are_called_what_they_are(ends, names):
    assert output_names(ending(*ends)) == names


def test_several_outputs_come_in_the_order_of_the_model(tmp_path):
    model = ending(*["softmax"] * 12)
    export_for_serving(model, (4, 4, 3), tmp_path / "saved_model", Preprocessing(MODES["tf"]))
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    expected = [output.numpy() for output in model(preprocess_input(images, "tf"))]
    signature = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serve_raw"]
    outputs = signature(images=tf.constant(images))
    for i, values in enumerate(expected):
        np.testing.assert_allclose(outputs[f"output_{i}"], values, atol=1e-6)
    got = SavedModelRunner(files_of(tmp_path)).run(preprocess_input(images, "tf"))
    np.testing.assert_allclose(np.stack(got), np.stack(expected), atol=1e-6)


def files_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_without_preprocessing_there_is_only_serve(tmp_path):
    model = tiny_cnn()
    export_for_serving(model, (8, 8, 1), tmp_path / "saved_model")
    assert list(tf.saved_model.load(str(tmp_path / "saved_model")).signatures) == ["serve", "serving_default"]
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    [got] = SavedModelRunner(files_of(tmp_path)).run(images)
    np.testing.assert_allclose(got, model(images), atol=1e-6)
    with pytest.raises(ValueError, match=r"RGB images, but input_shape=\(8, 8, 1\) has 1 channels"):
        export_for_serving(model, (8, 8, 1), tmp_path / "other", Preprocessing(MODES["tf"]))
    assert not (tmp_path / "other").exists()


def test_the_graph_is_stored_once_and_no_path_of_this_machine(exported, tmp_path):
    folder = exported(identity=False)[0]
    content = (folder / "saved_model.pb").read_bytes()
    assert b"/converters/" not in content
    assert b"/keras/" not in content
    assert not (folder / "debug").exists()
    export_for_serving(network(), (SIZE, SIZE, 3), tmp_path)
    convolutions = [
        path.read_bytes().count(b"DepthwiseConv2dNative")
        for path in (folder / "saved_model.pb", tmp_path / "saved_model.pb")
    ]
    assert convolutions[0] == convolutions[1] > 0


def test_it_loads_and_runs_without_keras_and_us(exported):
    names = check_loads_alone(exported(identity=False)[0])
    assert names == ("serve", "serve_raw", "serve_jpeg", "serving_default")


@pytest.mark.parametrize("package", ["keras", "converters", "keras_archs"])
def test_the_check_has_neither_keras_nor_us(monkeypatch, tmp_path, package):
    script = saved_model._ALONE.replace("import tensorflow", f"import {package}, tensorflow")
    monkeypatch.setattr(saved_model, "_ALONE", script)
    with pytest.raises(ConversionError, match=f"No module named '{package}'") as caught:
        check_loads_alone(tmp_path)
    assert "Traceback" in caught.value.log


def test_the_check_finds_a_model_that_needs_python(tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda images: {
            "logits": tf.ensure_shape(tf.py_function(lambda x: x, [images], tf.float32), (None,))
        },
        input_signature=[tf.TensorSpec([None], tf.float32, name="images")],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serve": module.serve})
    with pytest.raises(ConversionError, match=r"does not run without Keras and this package: .*pyfunc"):
        check_loads_alone(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MODES["tf"], 0.0), r"crop_share=0.0 must be above 0"),
        ((MODES["tf"], 1.5), r"crop_share=1.5 .* at most 1"),
        ((MODES["tf"], 1.0, "bilinea"), r"interpolation='bilinea'.*Did you mean 'bilinear'"),
        ((Mode((0.0, 0.0), (1.0,)),), r"mode.mean=\(0.0, 0.0\) must be one number, or three"),
        ((Mode((0.0,), (1.0, 1.0)),), r"mode.deviation=\(1.0, 1.0\) must be one number, or three"),
        ((Mode((0.0,), (0.0,)),), r"mode.deviation=\(0.0,\) must not hold a zero"),
    ],
)
def test_preprocessing_says_what_it_does_not_accept(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(*arguments)
