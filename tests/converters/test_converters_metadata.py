import dataclasses
import io
import struct
import warnings
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

from converters import metadata_schema
from converters.graph import Graph, schema_module
from converters.metadata import (
    Labels,
    Metadata,
    ScoreCalibration,
    TensorMetadata,
    check_labels,
    image_input,
    logits_output,
    make_labels,
    read_metadata,
    read_tree,
    score_output,
    write_metadata,
)
from converters.metadata_files import Sigmoid, append_files, read_associated_files, read_labels

# A mean over the pixels (1, 4, 4, 3) of three channels, with metadata by MediaPipe 1.2.2's own
# image_classifier.MetadataWriter: labels, labels in German, score calibration.
MEDIAPIPE = (Path(__file__).parent / "mediapipe_metadata.tflite").read_bytes()
NAMES = ("cat", "dog", "crane")
LABELS = (Labels(NAMES), Labels(("Katze", "Hund", "Kranich"), "de", "labels_de.txt"))
CALIBRATION = ScoreCalibration(
    (Sigmoid(0.5, 1.5, -0.25, 0.125), None, Sigmoid(1.0, 2.0, 0.0)), "INVERSE_LOGISTIC", 0.2
)
METADATA = Metadata(
    "Tiny",
    "Says what is größer.",
    "1.2.3-rc1",
    "Me",
    "Apache-2.0",
    (image_input("float32", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),),
    (score_output("float32", LABELS, CALIBRATION),),
)


@pytest.fixture(autouse=True)
def clean_state():
    """No Keras here."""


@pytest.fixture(scope="module")
def bare():
    """The model alone."""
    graph = Graph(MEDIAPIPE)
    graph._model.metadata = [m for m in graph._model.metadata if m.name != b"TFLITE_METADATA"]
    return graph.to_bytes()


@pytest.fixture(scope="module")
def written(bare):
    return write_metadata(bare, METADATA)


def run(content):
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def with_packed(bare, packed):
    """A model with any bytes as its metadata."""
    graph = Graph(bare)
    graph.set_metadata("TFLITE_METADATA", packed)
    return graph.to_bytes()


def changed(**fields):
    """The metadata with other fields of its output."""
    return dataclasses.replace(METADATA, outputs=(dataclasses.replace(METADATA.outputs[0], **fields),))


def changed_input(**fields):
    return dataclasses.replace(METADATA, inputs=(dataclasses.replace(METADATA.inputs[0], **fields),))


# Reading and writing


def test_what_is_written_is_read(written):
    assert read_metadata(written) == METADATA


def test_a_model_without_metadata_has_none(bare):
    assert read_metadata(bare) is None
    assert read_associated_files(bare) == {}


def test_metadata_may_be_empty_but_for_names(bare):
    metadata = Metadata(inputs=(TensorMetadata("x"),), outputs=(TensorMetadata("y"),))
    content = write_metadata(bare, metadata)
    assert read_metadata(content) == metadata
    assert not zipfile.is_zipfile(io.BytesIO(content))


def test_mediapipes_file_is_read_whole():
    assert read_metadata(MEDIAPIPE) == Metadata(
        "ImageClassifier",
        "Identify the most prominent object in the image from a known set of categories.",
        inputs=(image_input("float32", [127.5], [127.5]),),
        outputs=(score_output("float32", LABELS, CALIBRATION),),
    )


def test_a_written_model_computes_the_same_and_keeps_its_other_entries(bare, written):
    np.testing.assert_array_equal(run(written), run(bare))
    assert metadata_schema.find(written, "min_runtime_version") == b"1.6.0".ljust(16, b"\0")
    assert metadata_schema.find(written, "CONVERSION_METADATA") is not None


def test_a_written_model_is_a_zip_archive_that_is_not_compressed(written):
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["labels.txt", "labels_de.txt", "score_calibration.txt"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("labels_de.txt") == b"Katze\nHund\nKranich"


def test_no_line_follows_the_last_sigmoid(written):
    # MediaPipe counts an empty last line as a class and then refuses to run.
    files = read_associated_files(written)
    assert files["score_calibration.txt"] == b"0.5,1.5,-0.25,0.125\n\n1.0,2.0,0.0"
    assert read_associated_files(MEDIAPIPE)["score_calibration.txt"] == files["score_calibration.txt"] + b"\n"


def test_a_last_class_without_sigmoid_is_kept(bare):
    calibration = dataclasses.replace(CALIBRATION, sigmoids=(Sigmoid(1, 1, 0), None, None))
    for labels in ((), LABELS):
        metadata = changed(labels=labels, calibration=calibration)
        assert read_metadata(write_metadata(bare, metadata)) == metadata


def test_writing_again_replaces(bare, written):
    assert write_metadata(written, METADATA) == written
    assert write_metadata(MEDIAPIPE, METADATA) == written
    other = changed(labels=(), calibration=None)
    assert write_metadata(written, other) == write_metadata(bare, other)


def test_fields_are_where_the_schema_says(written):
    """A reader that knows nothing but the numbers in metadata_schema.fbs."""
    from flatbuffers.number_types import Float32Flags, Int8Flags, Uint8Flags
    from flatbuffers.table import Table

    packed = metadata_schema.find(written, "TFLITE_METADATA")
    assert packed[4:8] == b"M001"

    def child(table, slot):
        return Table(table.Bytes, table.Indirect(table.Offset(4 + 2 * slot) + table.Pos))

    def item(table, slot, i):
        return Table(table.Bytes, table.Indirect(table.Vector(table.Offset(4 + 2 * slot)) + 4 * i))

    def number(table, slot, flags):
        return table.Get(flags, table.Offset(4 + 2 * slot) + table.Pos)

    def text(table, slot):
        return table.String(table.Offset(4 + 2 * slot) + table.Pos).decode()

    def floats(table, slot):
        start = table.Vector(table.Offset(4 + 2 * slot))
        count = table.VectorLen(table.Offset(4 + 2 * slot))
        return [table.Get(Float32Flags, start + 4 * i) for i in range(count)]

    model = Table(packed, struct.unpack_from("<I", packed)[0])
    texts = [text(model, slot) for slot in (0, 1, 2, 4, 5, 7)]
    assert texts == ["Tiny", "Says what is größer.", "1.2.3-rc1", "Me", "Apache-2.0", "1.0.0"]
    image, score = item(item(model, 3, 0), 2, 0), item(item(model, 3, 0), 3, 0)
    assert (text(image, 0), text(score, 0)) == ("image", "score")
    assert [number(child(tensor, 3), 0, Uint8Flags) for tensor in (image, score)] == [2, 1]
    assert number(child(child(image, 3), 1), 0, Int8Flags) == 1
    unit, calibration = item(image, 4, 0), item(score, 4, 0)
    assert [number(each, 0, Uint8Flags) for each in (unit, calibration)] == [1, 2]
    assert floats(child(unit, 1), 0) == pytest.approx([123.675, 116.28, 103.53])
    assert floats(child(unit, 1), 1) == pytest.approx([58.395, 57.12, 57.375])
    assert number(child(calibration, 1), 0, Int8Flags) == 2
    assert number(child(calibration, 1), 1, Float32Flags) == pytest.approx(0.2)
    assert (floats(child(score, 5), 0), floats(child(score, 5), 1)) == ([1.0], [0.0])
    files = [item(score, 6, i) for i in range(3)]
    assert [text(file, 0) for file in files] == ["labels.txt", "labels_de.txt", "score_calibration.txt"]
    assert [number(file, 2, Int8Flags) for file in files] == [2, 2, 4]
    assert text(files[1], 3) == "de"


def full(table):
    """A tree with every field that can be written."""
    tree = {}
    for i, (field, kind) in enumerate(metadata_schema.TABLES[table].items()):
        inner = kind.strip("[]")
        if inner in metadata_schema.UNIONS:
            value = [(member, full(member)) for member in metadata_schema.UNIONS[inner]][i % 2]
        elif inner in metadata_schema.TABLES:
            value = full(inner)
        elif inner == "string":
            value = f"{table}.{field}"
        else:
            value = i + 1
        if kind != "[CustomMetadata]":
            tree[field] = [value, value] if kind.startswith("[") else value
    return tree


def test_every_field_comes_back():
    tree = full("ModelMetadata")
    assert metadata_schema.unpack(metadata_schema.pack(tree)) == tree


def test_mediapipes_own_reader_reads_every_field():
    theirs = pytest.importorskip(
        "mediapipe.tasks.metadata.metadata_schema_py_generated", exc_type=ImportError
    )

    def compare(tree, table, actual):
        assert type(actual).__name__ == f"{table}T"
        for field, value in tree.items():
            kind = metadata_schema.TABLES[table][field]
            first, *words = field.split("_")
            found = getattr(actual, first + "".join(word[0].upper() + word[1:] for word in words))
            if kind in metadata_schema.UNIONS:
                compare(value[1], value[0], found)
            elif kind.strip("[]") in metadata_schema.TABLES:
                for mine, other in zip(
                    *([value], [found]) if kind[0] != "[" else (value, found), strict=True
                ):
                    compare(mine, kind.strip("[]"), other)
            elif "string" in kind:
                expected = [each.encode() for each in value] if kind[0] == "[" else value.encode()
                assert (list(found) if kind[0] == "[" else found) == expected
            else:
                np.testing.assert_array_equal(found, value)

    tree = full("ModelMetadata")
    packed = metadata_schema.pack(tree)
    compare(
        tree,
        "ModelMetadata",
        theirs.ModelMetadataT.InitFromObj(theirs.ModelMetadata.GetRootAs(packed, 0)),
    )


@pytest.mark.parametrize(
    ("main", "version"),
    [
        ({}, "1.0.0"),
        ({"output_tensor_metadata": [{"associated_files": [{"type": 2}]}]}, "1.0.0"),
        ({"associated_files": [{"type": 5}]}, "1.0.1"),
        ({"input_process_units": []}, "1.1.0"),
        ({"output_tensor_groups": [{"name": "g"}], "input_process_units": []}, "1.2.0"),
        (
            {"input_tensor_metadata": [{"process_units": [{"options": ("RegexTokenizerOptions", {})}]}]},
            "1.2.1",
        ),
        ({"input_tensor_metadata": [{"content": {"content_properties": ("AudioProperties", {})}}]}, "1.3.0"),
        ({"associated_files": [{"type": 6}]}, "1.4.0"),
        ({"associated_files": [{"version": "1"}]}, "1.4.1"),
        ({"custom_metadata": [{"name": "x"}]}, "1.5.0"),
    ],
)
def test_the_parser_version_is_that_of_the_newest_field(main, version):
    assert metadata_schema.parser_version({"name": "x", "subgraph_metadata": [main]}) == version


# What MediaPipe's writer writes for which type


@pytest.mark.parametrize(
    ("dtype", "minimum", "maximum"),
    [("float32", (-1.0,), (1.0,)), ("uint8", (0.0,), (255.0,)), ("int8", (), ())],
)
def test_the_range_of_the_input_follows_its_type(dtype, minimum, maximum):
    image = image_input(dtype, [127.5], [127.5])
    assert (image.minimum, image.maximum) == (minimum, maximum)
    assert (image.mean, image.std, image.color_space) == ((127.5,), (127.5,), "RGB")


@pytest.mark.parametrize(("mean", "std"), [((1, 2), (1,)), ((), ()), ((1,), (0,))])
def test_a_normalisation_that_is_none_is_refused(mean, std):
    with pytest.raises(ValueError, match="as many numbers for both, and std above 0"):
        image_input("float32", mean, std)


@pytest.mark.parametrize(
    ("output", "maximum"),
    [
        (score_output("float32"), (1.0,)),
        (score_output("uint8"), (255.0,)),
        (score_output("int8"), ()),
        (logits_output(), ()),
    ],
)
def test_the_range_of_the_output_follows_its_type(output, maximum):
    assert output.maximum == maximum
    assert len(output.minimum) == len(maximum)


# Labels


def test_labels_are_one_a_class_and_may_be_equal():
    check_labels(["crane", "maillot", "crane"], 3)
    assert make_labels(["a", "b"], 2, "pt-BR") == Labels(("a", "b"), "pt-BR", "labels_pt-BR.txt")
    assert make_labels(["a", "b"], 2).file == "labels.txt"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], r"2 labels for 3 classes; the last is 'b'; one a class"),
        (["a", "b", "c", "d", "e"], r"5 labels for 3 classes; the first without a class is 'd'"),
        ([], "0 labels for 3 classes; one"),
        (["a", " ", "c"], r"labels\[1\]=' ' is not accepted"),
        (["a", "b\nc", "d"], r"labels\[1\]='b\\nc' is not accepted"),
        (["a", "b", "c\r"], r"labels\[2\]='c\\r' is not accepted"),
    ],
)
def test_labels_that_do_not_fit_are_named(names, message):
    with pytest.raises(ValueError, match=message):
        check_labels(names, 3)


@pytest.mark.parametrize(
    ("names", "message"), [("abc", "one text"), (["a", 1, "b"], r"labels\[1\]=1 is int")]
)
def test_labels_are_texts(names, message):
    with pytest.raises(TypeError, match=message):
        check_labels(names, 3)


@pytest.mark.parametrize(
    ("locale", "message"),
    [
        ("pt_BR", "Did you mean 'pt-BR'"),
        ("german", "Such as 'de'"),
        ("../de", "Such as"),
        ("de\n", "mean 'de'"),
    ],
)
def test_a_locale_has_its_form(locale, message):
    with pytest.raises(ValueError, match=message):
        make_labels(["a"], 1, locale)


def test_label_files_may_come_from_any_editor(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\nKäfer\r\ncrane\r\n".encode())
    assert read_labels(path) == ("cat", "Käfer", "crane")
    path.write_bytes(b"cat\n\ncrane")
    assert read_labels(path) == ("cat", "", "crane")
    path.write_bytes("Käfer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels.txt' is not UTF-8"):
        read_labels(path)


# Metadata that does not fit


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (dataclasses.replace(METADATA, inputs=()), r"metadata.inputs describes 0; the model has 1 inputs"),
        (dataclasses.replace(METADATA, outputs=METADATA.outputs * 2), r"metadata.outputs describes 2"),
        (changed(name=""), r"outputs\[0\].name is empty"),
        (changed_input(color_space="BGR"), r"color_space='BGR' is not accepted. Accepted: .*RGB"),
        (changed_input(mean=(1.0, 2.0), std=(1.0, 2.0)), r"mean=\(1.0, 2.0\) has 2 numbers; .* 3 channels"),
        (changed_input(mean=(1.0,)), r"std=.* has 3 numbers"),
        (changed_input(std=(1.0, 0.0, 1.0)), r"std=\(1.0, 0.0, 1.0\) .* above 0"),
        (changed_input(mean=(1.0, float("nan"), 1.0)), "mean=.* finite"),
        (changed(maximum=()), "maximum=.* has 0 numbers"),
        (changed(labels=(Labels(NAMES[:2]),)), "2 labels for 3 classes"),
        (changed(labels=(LABELS[0], LABELS[0])), "locale '' twice"),
        (changed(labels=(LABELS[0], dataclasses.replace(LABELS[1], file="labels.txt"))), "two files"),
        (changed(labels=(Labels(NAMES, "de_DE"),)), "mean 'de-DE'"),
        (changed(labels=(Labels(NAMES, file="../x"),)), r"'../x' leads elsewhere"),
        (changed(calibration=ScoreCalibration((Sigmoid(1, 1, 1),))), "1 sigmoids for 3 classes"),
        (changed(calibration=ScoreCalibration((None,) * 3)), "no sigmoid"),
        (changed(calibration=ScoreCalibration((Sigmoid(-1, 1, 1),) * 3)), r"sigmoids\[0\].* at least 0"),
        (changed(calibration=ScoreCalibration((Sigmoid(1, 1, 1, np.inf),) * 3)), r"sigmoids\[0\].*finite"),
        (changed(calibration=dataclasses.replace(CALIBRATION, transformation="log")), "Did you mean 'LOG'"),
        (changed(calibration=dataclasses.replace(CALIBRATION, default_score=np.nan)), "default_score=nan"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(bare, metadata, message):
    with pytest.raises(ValueError, match=message):
        write_metadata(bare, metadata)


def test_only_models_are_written_to():
    with pytest.raises(ValueError, match=r"not a TFLite model: bytes 4 to 8 are b'5678'"):
        write_metadata(b"123456789", METADATA)


# Files of others, of a later time, or of bad intent


def test_missing_fields_are_empty(bare):
    tensor = {
        "process_units": [{}, {"options": ("ScoreCalibrationOptions", {})}],
        "associated_files": [{"type": 2}, {"type": 4}],
    }
    tree = {"subgraph_metadata": [{"input_tensor_metadata": [{}], "output_tensor_metadata": [tensor]}]}
    expected = Metadata(inputs=(TensorMetadata(""),), outputs=(TensorMetadata(""),))
    assert read_metadata(with_packed(bare, metadata_schema.pack(tree))) == expected
    assert read_metadata(with_packed(bare, metadata_schema.pack({}))) == Metadata()


def test_values_of_a_later_schema_are_unknown(bare):
    units = [{"options": ("RegexTokenizerOptions", {"delim_regex_pattern": "x"})}]
    tensor = {
        "content": {"content_properties": ("ImageProperties", {"color_space": 77})},
        "process_units": units,
    }
    packed = metadata_schema.pack({"subgraph_metadata": [{"input_tensor_metadata": [tensor]}]})
    content = with_packed(bare, packed)
    assert read_metadata(content).inputs == (TensorMetadata("", color_space="UNKNOWN"),)
    position = content.index(b"\x06", content.index(b"M001"))  # The union's type.
    later = content[:position] + b"\x60" + content[position + 1 :]
    assert read_tree(later)["subgraph_metadata"][0]["input_tensor_metadata"][0]["process_units"] == [{}]


def test_the_first_process_unit_of_a_kind_counts(bare):
    units = [{"options": ("NormalizationOptions", {"mean": [mean], "std": [1]})} for mean in (3, 4)]
    packed = metadata_schema.pack(
        {"subgraph_metadata": [{"input_tensor_metadata": [{"process_units": units}]}]}
    )
    assert read_metadata(with_packed(bare, packed)).inputs[0].mean == (3.0,)


@pytest.mark.parametrize("cut", [0, 7])
def test_labels_that_were_cut_off_are_missed(bare, written, cut):
    model = Graph(written).to_bytes()  # As any tool does that writes the flatbuffer again.
    with pytest.raises(ValueError, match=r"names the file 'labels.txt', which is not there"):
        read_metadata(model if cut == 0 else written[:-cut])


def test_damage_anywhere_is_a_value_error_or_harmless():
    messages = []
    rng = np.random.default_rng(0)
    damaged = [MEDIAPIPE[:size] for size in range(0, len(MEDIAPIPE), 5)]
    for position in rng.permutation(len(MEDIAPIPE))[:1000]:
        content = bytearray(MEDIAPIPE)
        content[position] ^= rng.integers(1, 256)
        damaged.append(bytes(content))
    for content in damaged:
        for read in (read_metadata, read_tree, read_associated_files):
            try:
                read(content)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 500
    assert {message for message in messages if not message.startswith(("the ", "line "))} == set()
    assert {message for message in messages if not message.endswith(".")} == set()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: b"", r"of format b''; b'M001'"),
        (lambda packed: packed.replace(b"M001", b"M002"), "format b'M002'"),
        (lambda packed: packed[:200], "damaged: .* in 200 bytes|do not fit into 200 bytes"),
        (lambda packed: struct.pack("<I", 1 << 31) + packed[4:], "it points to 2147483648"),
        (lambda packed: packed.replace(b"\4\0\0\0Tiny", b"\4\1\1\0Tiny"), "65796 values at .* do not fit"),
        (lambda packed: packed.replace(b"Tiny", b"T\xff\xff\xff"), r"damaged: the text .* is not UTF-8"),
    ],
)
def test_damaged_metadata_is_named(bare, written, damage, message):
    packed = metadata_schema.find(written, "TFLITE_METADATA")
    with pytest.raises(ValueError, match=message):
        read_metadata(with_packed(bare, damage(packed)))


def test_tables_before_the_start_are_refused():
    # The layout is said to lie after the table, so its position is negative.
    with pytest.raises(ValueError, match="it points to -"):
        metadata_schema.unpack(struct.pack("<I4sii", 8, b"M001", 1 << 20, 0))


def test_a_buffer_that_does_not_exist_is_refused():
    schema = schema_module()
    model = schema.ModelT()
    model.buffers, entry = [schema.BufferT()], schema.MetadataT()
    entry.name, entry.buffer, model.metadata = "TFLITE_METADATA", 7, [entry]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(ValueError, match="the model is damaged: TFLITE_METADATA is in buffer 7 of 1"):
        read_tree(bytes(builder.Output()))


def test_the_same_table_a_million_times_is_refused(bare):
    builder = flatbuffers.Builder(1 << 16)
    inner = "SubGraphMetadata"
    fields = list(metadata_schema.TABLES[inner])
    child = metadata_schema._pack_table(builder, "TensorMetadata", {"name": "x"})
    for table, slot, slots in ((inner, fields.index("input_tensor_metadata"), 10), ("ModelMetadata", 3, 8)):
        assert table in metadata_schema.TABLES
        builder.StartVector(4, 1000, 4)
        for _ in range(1000):
            builder.PrependUOffsetTRelative(child)
        vector = builder.EndVector()
        builder.StartObject(slots)
        builder.PrependUOffsetTRelativeSlot(slot, vector, 0)
        child = builder.EndObject()
    builder.Finish(child, b"M001")
    packed = bytes(builder.Output())
    assert len(packed) < 10_000
    with pytest.raises(ValueError, match="more than 4,194,304 bytes, counting each reference"):
        read_metadata(with_packed(bare, packed))


def zipped(bare, name="labels.txt", data=b"x", compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    stream.write(bare)
    with zipfile.ZipFile(stream, "a", compression) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def test_compressed_files_and_folders_of_others_are_read(bare):
    content = zipped(bare, "sub/labels.txt", b"cat\n" * 1000, zipfile.ZIP_DEFLATED)
    assert read_associated_files(content) == {"sub/labels.txt": b"cat\n" * 1000}
    assert read_associated_files(zipped(bare, "folder/")) == {}


@pytest.mark.parametrize("name", ["../labels.txt", "/etc/labels.txt", "a/../../b", "a\\b", "C:x", "."])
def test_names_that_lead_elsewhere_are_refused(bare, name):
    with pytest.raises(ValueError, match="leads elsewhere"):
        read_associated_files(zipped(bare, name))


def test_files_that_unpack_to_gigabytes_are_refused(bare):
    content = zipped(bare, data=bytes((16 << 20) + 1), compression=zipfile.ZIP_DEFLATED)
    assert len(content) < 50_000
    with pytest.raises(ValueError, match=r"16,777,217 bytes unpacked; 16,777,216 are accepted"):
        read_associated_files(content)


def test_rare_compression_is_refused(bare):
    with pytest.raises(ValueError, match="rare way"):
        read_associated_files(zipped(bare, data=b"x" * 100, compression=zipfile.ZIP_LZMA))


def test_files_that_changed_are_refused(bare):
    content = zipped(bare, data=b"0123456789")
    with pytest.raises(ValueError, match=r"files are damaged: Bad CRC-32"):
        read_associated_files(content.replace(b"0123456789", b"0123456780"))


@pytest.mark.parametrize("line", ["1,2", "1,2,3,4,5", "a,b,c", "1,,2"])
def test_a_calibration_line_that_is_none_is_named(bare, written, line):
    files = read_associated_files(written) | {"score_calibration.txt": f"1,2,3\n{line}\n".encode()}
    content = append_files(Graph(written).to_bytes(), files)
    with pytest.raises(ValueError, match=r"line 2 of the file 'score_calibration.txt' is '"):
        read_metadata(content)
