"""The tables of TFLite's metadata as data, with a writer and a reader that believes nothing it reads."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import flatbuffers

IDENTIFIER = b"M001"
MODEL_IDENTIFIER = b"TFL3"
# Nothing honest comes near; tables and texts that are referred to again and again count each time.
_MOST_BYTES = 4 << 20
_SCALARS = {"byte": "<b", "ubyte": "<B", "int": "<i", "uint": "<I", "float": "<f"}

# Fields in the order of their numbers; a union takes two. metadata_schema.fbs 1.5.0, complete.
_FILES, _UNITS, _TENSORS, _GROUPS = "[AssociatedFile]", "[ProcessUnit]", "[TensorMetadata]", "[TensorGroup]"
TABLES: dict[str, dict[str, str]] = {
    "ModelMetadata": {
        "name": "string", "description": "string", "version": "string",
        "subgraph_metadata": "[SubGraphMetadata]", "author": "string", "license": "string",
        "associated_files": _FILES, "min_parser_version": "string",
    },
    "SubGraphMetadata": {
        "name": "string", "description": "string", "input_tensor_metadata": _TENSORS,
        "output_tensor_metadata": _TENSORS, "associated_files": _FILES, "input_process_units": _UNITS,
        "output_process_units": _UNITS, "input_tensor_groups": _GROUPS, "output_tensor_groups": _GROUPS,
        "custom_metadata": "[CustomMetadata]",
    },
    "TensorMetadata": {
        "name": "string", "description": "string", "dimension_names": "[string]", "content": "Content",
        "process_units": _UNITS, "stats": "Stats", "associated_files": _FILES,
    },
    "TensorGroup": {"name": "string", "tensor_names": "[string]"},
    "CustomMetadata": {"name": "string", "data": "[ubyte]"},
    "AssociatedFile": {
        "name": "string", "description": "string", "type": "byte", "locale": "string", "version": "string",
    },
    "Stats": {"max": "[float]", "min": "[float]"},
    "Content": {"content_properties": "ContentProperties", "range": "ValueRange"},
    "ValueRange": {"min": "int", "max": "int"},
    "FeatureProperties": {},
    "ImageProperties": {"color_space": "byte", "default_size": "ImageSize"},
    "ImageSize": {"width": "uint", "height": "uint"},
    "BoundingBoxProperties": {"index": "[uint]", "type": "byte", "coordinate_type": "byte"},
    "AudioProperties": {"sample_rate": "uint", "channels": "uint"},
    "ProcessUnit": {"options": "ProcessUnitOptions"},
    "NormalizationOptions": {"mean": "[float]", "std": "[float]"},
    "ScoreCalibrationOptions": {"score_transformation": "byte", "default_score": "float"},
    "ScoreThresholdingOptions": {"global_score_threshold": "float"},
    "BertTokenizerOptions": {"vocab_file": _FILES},
    "SentencePieceTokenizerOptions": {"sentencePiece_model": _FILES, "vocab_file": _FILES},
    "RegexTokenizerOptions": {"delim_regex_pattern": "string", "vocab_file": _FILES},
    # What leads to the metadata inside of a model; "-" is passed over, "[*]" gives positions only.
    "Model": {
        "version": "uint", "operator_codes": "-", "subgraphs": "-", "description": "-", "buffers": "[*]",
        "metadata_buffer": "-", "metadata": "[Metadata]",
    },
    "Metadata": {"name": "string", "buffer": "uint"},
    "Buffer": {"data": "[ubyte]"},
}  # fmt: skip
# Members in the order of their numbers, from 1.
UNIONS = {
    "ContentProperties": (
        "FeatureProperties", "ImageProperties", "BoundingBoxProperties", "AudioProperties",
    ),
    "ProcessUnitOptions": (
        "NormalizationOptions", "ScoreCalibrationOptions", "ScoreThresholdingOptions",
        "BertTokenizerOptions", "SentencePieceTokenizerOptions", "RegexTokenizerOptions",
    ),
}  # fmt: skip
# The schema's version that brought a field, a value of a field or a member of a union; 1.0.0 else.
_SINCE = {
    "AssociatedFile.type=5": (1, 0, 1),
    "SubGraphMetadata.input_process_units": (1, 1, 0),
    "SubGraphMetadata.output_process_units": (1, 1, 0),
    "BertTokenizerOptions": (1, 1, 0),
    "SentencePieceTokenizerOptions": (1, 1, 0),
    "SubGraphMetadata.input_tensor_groups": (1, 2, 0),
    "SubGraphMetadata.output_tensor_groups": (1, 2, 0),
    "RegexTokenizerOptions": (1, 2, 1),
    "AudioProperties": (1, 3, 0),
    "AssociatedFile.type=6": (1, 4, 0),
    "AssociatedFile.version": (1, 4, 1),
    "SubGraphMetadata.custom_metadata": (1, 5, 0),
}

Tree = dict[str, Any]


def parser_version(tree: Tree) -> str:
    """The oldest version of the schema whose readers understand everything in a tree.

    Args:
        tree: A `ModelMetadata`, as `unpack` gives it.

    Returns:
        Such as 1.0.0.
    """
    versions = [_SINCE.get(used, (1, 0, 0)) for used in _used("ModelMetadata", tree)]
    return "{}.{}.{}".format(*max(versions, default=(1, 0, 0)))


def pack(tree: Tree) -> bytes:
    """Write a tree as a flatbuffer.

    Args:
        tree: A `ModelMetadata`: field to value. A table is a dictionary, a vector a list, a member of a
            union its name and a dictionary. Custom metadata is read, but not written.

    Returns:
        The flatbuffer; the same tree gives the same bytes.
    """
    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack_table(builder, "ModelMetadata", tree), IDENTIFIER)
    return bytes(builder.Output())


def unpack(content: bytes) -> Tree:
    """Read the flatbuffer that `pack` or anybody else wrote.

    Args:
        content: From any source.

    Returns:
        The fields that are present, in the form that `pack` takes.

    Raises:
        ValueError: It is no metadata, is cut off, points out of itself, or holds text that is not UTF-8.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"the metadata is of format {content[4:8]!r}; {IDENTIFIER!r} is accepted.")
    return _Reader(content, "metadata").root("ModelMetadata")


def find(model: bytes, name: str) -> bytes | None:
    """The bytes that a TFLite model keeps under a name.

    Args:
        model: A file from any source.
        name: Such as TFLITE_METADATA.

    Returns:
        The bytes, or None if there are none of that name.

    Raises:
        ValueError: It is not a TFLite model, or is damaged.
    """
    if model[4:8] != MODEL_IDENTIFIER:
        raise ValueError(f"the content is not a TFLite model: bytes 4 to 8 are {model[4:8]!r}, not b'TFL3'.")
    reader = _Reader(model, "model")
    root = reader.root("Model")
    entry = next((entry for entry in root.get("metadata", []) if entry.get("name") == name), None)
    if entry is None:
        return None
    buffers, number = root.get("buffers", []), entry.get("buffer", 0)
    if number >= len(buffers):
        raise ValueError(f"the model is damaged: {name} is in buffer {number} of {len(buffers)}.")
    return reader.table("Buffer", buffers[number]).get("data", b"")


def _used(table: str, tree: Tree) -> Iterator[str]:
    """What could be in the list of versions."""
    for field, value in tree.items():
        kind = TABLES[table][field].strip("[]")
        yield f"{table}.{field}"
        if kind in UNIONS:
            yield value[0]
            yield from _used(*value)
        elif kind in TABLES:
            for child in value if isinstance(value, list) else [value]:
                yield from _used(kind, child)
        else:
            yield f"{table}.{field}={value}"


def _slots(table: str) -> Iterator[tuple[int, str, str]]:
    """Number, name and kind of each field."""
    slot = 0
    for field, kind in TABLES[table].items():
        yield slot, field, kind
        slot += 2 if kind in UNIONS else 1


def _pack_table(builder: flatbuffers.Builder, table: str, tree: Tree) -> int:
    fields = [(slot, kind, tree[field]) for slot, field, kind in _slots(table) if field in tree]
    # Children first: a flatbuffer is written from its end, and while a table is open nothing else may be.
    made = [(slot, kind, value, _pack_child(builder, kind, value)) for slot, kind, value in fields]
    builder.StartObject(len(TABLES[table]) + sum(kind in UNIONS for kind in TABLES[table].values()))
    scalars = {
        "byte": builder.PrependInt8Slot,
        "int": builder.PrependInt32Slot,
        "uint": builder.PrependUint32Slot,
        "float": builder.PrependFloat32Slot,
    }
    for slot, kind, value, offset in made:
        if kind in scalars:
            scalars[kind](slot, value, 0)
        elif kind in UNIONS:
            builder.PrependUint8Slot(slot, UNIONS[kind].index(value[0]) + 1, 0)
            builder.PrependUOffsetTRelativeSlot(slot + 1, offset, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return builder.EndObject()


def _pack_child(builder: flatbuffers.Builder, kind: str, value: Any) -> int:
    """Write what a field refers to; 0 for a value that is in the table itself."""
    if kind in _SCALARS:
        return 0
    if kind == "string":
        return builder.CreateString(value)
    if kind in UNIONS:
        return _pack_table(builder, *value)
    if kind in TABLES:
        return _pack_table(builder, kind, value)
    inner = kind[1:-1]
    if inner in _SCALARS:
        items, prepend = value, {"float": builder.PrependFloat32, "uint": builder.PrependUint32}[inner]
    else:
        items = [_pack_child(builder, inner, child) for child in value]
        prepend = builder.PrependUOffsetTRelative
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        prepend(item)
    return builder.EndVector()


class _Reader:
    """Reads tables, with every position checked before it is used."""

    def __init__(self, content: bytes, what: str) -> None:
        self._content = content
        self._what = what
        self._left = _MOST_BYTES

    def root(self, table: str) -> Tree:
        return self.table(table, self._follow(0))

    def table(self, table: str, position: int) -> Tree:
        self._spend(64)  # About what a table takes in memory.
        layout = position - self._number("<i", position)
        size = self._number("<H", layout)
        tree: Tree = {}
        for slot, field, kind in _slots(table):
            values = [self._field(position, layout, size, number) for number in (slot, slot + 1)]
            if values[0] == 0 or kind == "-":
                continue
            if kind in UNIONS:
                number = self._number("<B", values[0])
                # A member that a newer schema has brought is nothing to us.
                if 0 < number <= len(UNIONS[kind]) and values[1]:
                    member = UNIONS[kind][number - 1]
                    tree[field] = member, self.table(member, self._follow(values[1]))
            else:
                tree[field] = self._value(kind, values[0])
        return tree

    def _field(self, position: int, layout: int, size: int, slot: int) -> int:
        """Where a field is; 0 if it is absent."""
        entry = 4 + 2 * slot
        offset = self._number("<H", layout + entry) if entry + 2 <= size else 0
        return position + offset if offset else 0

    def _value(self, kind: str, position: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind], position)
        position = self._follow(position)
        if kind in TABLES:
            return self.table(kind, position)
        width = 1 if kind in ("string", "[ubyte]") else 4
        start, count = position + 4, self._number("<I", position)
        if start + count * width > len(self._content):
            raise self._damaged(f"{count} values at {start} do not fit into {len(self._content)} bytes")
        self._spend(count * width)
        if kind == "[*]":
            return [self._follow(start + 4 * i) for i in range(count)]
        if width == 4:
            return [self._value(kind[1:-1], start + 4 * i) for i in range(count)]
        data = self._content[start : start + count]
        if kind == "[ubyte]":
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self._damaged(f"the text {data[:40]!r} is not UTF-8") from error

    def _number(self, layout: str, position: int) -> Any:
        # A negative position counts from the end for struct, which would hide the damage.
        if position < 0 or position + struct.calcsize(layout) > len(self._content):
            raise self._damaged(f"it points to {position} in {len(self._content)} bytes")
        return struct.unpack_from(layout, self._content, position)[0]

    def _follow(self, position: int) -> int:
        return position + self._number("<I", position)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise self._damaged(f"it holds more than {_MOST_BYTES:,} bytes, counting each reference")

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"the {self._what} is damaged: {why}.")
