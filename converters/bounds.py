"""Checking that everything a .tflite file's offsets lead to lies inside of the file.

The generated readers, and the runtime, follow offsets without looking; a wrong one ends the process. The
layout of the tables is taken from the generated readers themselves, so that exactly what they can reach is
checked.
"""

from __future__ import annotations

import inspect
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from converters.graph import FILE_IDENTIFIER, names_of, schema_module

_MOST_TABLES = 200_000
# Unions are numbered by an enumeration, whose name the readers do not tell.
_UNIONS = {
    "BuiltinOptions": "BuiltinOptions",
    "BuiltinOptions2": "BuiltinOptions2",
    "Details": "QuantizationDetails",
    "ArraySegments": "SparseIndexVector",
    "ArrayIndices": "SparseIndexVector",
}
_HELPERS = ("AsNumpy", "Length", "IsNone")  # More methods for the same field.


class _Field(NamedTuple):
    """A field of a table.

    Attributes:
        slot: Where the vtable holds its offset.
        name: As the reader calls it.
        width: Bytes in the table, or of an element of its vector.
        kind: scalar, vector (of scalars), string, table, tables (a vector) or union.
        target: Name of the table, or of the union's enumeration.
    """

    slot: int
    name: str
    width: int
    kind: str
    target: str = ""


@dataclass
class _Recorder:
    """Stands in for `flatbuffers.table.Table`, and notes what a reader's method does with it."""

    Bytes: bytes = b""
    Pos: int = 0
    slot: int = 0
    width: int = 4
    kind: str = "scalar"
    in_vector: bool = False

    def Offset(self, slot: int) -> int:  # noqa: N802
        self.slot = slot
        return slot

    def Get(self, flags: Any, offset: int) -> int:  # noqa: N802
        self.width = flags.bytewidth
        return 0

    def Vector(self, offset: int) -> int:  # noqa: N802
        self.in_vector = True
        return 0

    def Indirect(self, offset: int) -> int:  # noqa: N802
        self.kind = "table"
        return 0

    def String(self, offset: int) -> bytes:  # noqa: N802
        self.kind = "string"
        return b""

    def Union(self, table: Any, offset: int) -> None:  # noqa: N802
        self.kind = "union"


@cache
def _layout(table: str) -> tuple[_Field, ...]:
    """The fields of a table that its generated reader can read."""
    reader = getattr(schema_module(), table)
    fields = []
    for name, method in vars(reader).items():
        helper = any(name.endswith(end) and name.removesuffix(end) in vars(reader) for end in _HELPERS)
        if name == "Init" or helper or not inspect.isfunction(method):
            continue
        instance, recorder = reader(), _Recorder()
        instance._tab = recorder
        result = method(instance, 0) if _takes_index(method) else method(instance)
        fields.append(_field(name, recorder, result))
    return tuple(fields)


def _takes_index(method: Any) -> bool:
    """Whether a reader's method reads an element of a vector."""
    return len(inspect.signature(method).parameters) == 2


def _field(name: str, seen: _Recorder, result: Any) -> _Field:
    if seen.kind == "union":
        return _Field(seen.slot, name, 4, "union", _UNIONS[name])
    if seen.kind == "table":
        kind = "tables" if seen.in_vector else "table"
        return _Field(seen.slot, name, 4, kind, type(result).__name__)
    kind = f"{seen.kind}s" if seen.in_vector else seen.kind
    return _Field(seen.slot, name, seen.width, kind.replace("scalars", "vector"))


class _Walk:
    """One pass through a file; every method raises ValueError at the first thing that is wrong."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._tables = 0
        self._reached = 0
        self._pending: list[tuple[int, str]] = []

    def run(self) -> None:
        """Check the whole file, by a list of what is still to be seen: a recursion could run too deep."""
        self._pending.append((self._target(0, "the root"), "Model"))
        while self._pending:
            self._table(*self._pending.pop())

    def _number(self, form: str, position: int, what: str) -> int:
        size = struct.calcsize(form)
        if position < 0 or position + size > len(self._content) or position % size:
            raise ValueError(f"{what} is at byte {position}, which is outside of the file or not aligned")
        return int(struct.unpack_from(form, self._content, position)[0])

    def _target(self, position: int, what: str) -> int:
        offset = self._number("<I", position, f"the offset of {what}")
        if offset == 0:
            raise ValueError(f"the offset of {what} at byte {position} is zero")
        return position + offset

    def _count(self, size: int) -> None:
        """Parts may be shared, but a reader unfolds them: what that takes is bounded."""
        self._reached += size
        if self._reached > 2 * len(self._content) + 4096:
            raise ValueError("its parts overlap, so that reading it takes much more memory than its size")

    def _table(self, position: int, name: str) -> None:
        self._tables += 1
        if self._tables > _MOST_TABLES:
            raise ValueError(f"it has more than {_MOST_TABLES:,} parts")
        vtable = position - self._number("<i", position, f"a table {name}")
        length = self._number("<H", vtable, f"the vtable of {name}")
        size = self._number("<H", vtable + 2, f"the vtable of {name}")
        if length < 4 or length % 2 or vtable + length > len(self._content):
            raise ValueError(f"the vtable of {name} at byte {vtable} has {length} bytes")
        if size < 4 or position + size > len(self._content):
            raise ValueError(f"the table {name} at byte {position} has {size} bytes")
        self._count(size)
        offsets = struct.unpack_from(f"<{length // 2}H", self._content, vtable)
        present = {}
        for field in _layout(name):
            offset = offsets[field.slot // 2] if field.slot < length else 0
            if offset:
                inline = field.width if field.kind == "scalar" else 4
                if offset < 4 or offset + inline > size:
                    raise ValueError(
                        f"the field {field.name} of {name} at byte {position} is outside of its table"
                    )
                present[field.name] = (field, position + offset)
        for field, at in present.values():
            self._field(name, field, at, present)

    def _field(self, table: str, field: _Field, at: int, present: dict[str, tuple[_Field, int]]) -> None:
        what = f"{field.name} of {table}"
        if field.kind == "scalar":
            if at % field.width:
                raise ValueError(f"{what} at byte {at} is not aligned")
        elif field.kind == "vector":
            self._vector(at, field.width, what)
        elif field.kind == "string":
            self._string(at, what)
        elif field.kind == "strings":
            for element in self._offsets(at, what):
                self._string(element, what)
        elif field.kind == "tables":
            for element in self._offsets(at, what):
                self._pending.append((self._target(element, what), field.target))
        elif field.kind == "table":
            self._pending.append((self._target(at, what), field.target))
        else:
            self._union(at, field, what, present)

    def _vector(self, at: int, width: int, what: str) -> range:
        start = self._target(at, what)
        length = self._number("<I", start, what)
        first = start + 4
        if length > (len(self._content) - first) // width:
            raise ValueError(f"{what} at byte {start} has {length} elements, more than the file has room for")
        if length and first % width:
            raise ValueError(f"{what} at byte {start} is not aligned")
        self._count(length * width)
        return range(first, first + length * width, width)

    def _offsets(self, at: int, what: str) -> range:
        elements = self._vector(at, 4, what)
        if self._tables + len(elements) > _MOST_TABLES:
            raise ValueError(
                f"{what} has {len(elements):,} elements; a model has {_MOST_TABLES:,} parts at most"
            )
        return elements

    def _string(self, at: int, what: str) -> None:
        characters = self._vector(at, 1, what)
        if characters.stop >= len(self._content) or self._content[characters.stop]:
            raise ValueError(f"{what} does not end in a zero byte")
        try:
            self._content[characters.start : characters.stop].decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{what} is not text: {error.reason}") from error

    def _union(self, at: int, field: _Field, what: str, present: dict[str, tuple[_Field, int]]) -> None:
        target = self._target(at, what)
        kind = present.get(f"{field.name}Type")
        number = self._content[kind[1]] if kind else 0
        name = names_of(field.target).get(number)
        if name is None or number == 0:
            raise ValueError(f"{what} is of type {number}, which is not known here")
        self._pending.append((target, name))


def check_bounds(content: bytes) -> None:
    """Check that a TFLite file can be read without leaving it.

    Args:
        content: The file.

    Raises:
        ValueError: It cannot; says the first thing that is wrong.
    """
    if len(content) < 8 or content[4:8] != FILE_IDENTIFIER:
        raise ValueError("it does not begin as a TFLite model does: bytes 4 to 8 are not 'TFL3'")
    if len(content) >= 2**31:
        raise ValueError(f"it has {len(content):,} bytes; less than 2 GiB is accepted")
    _Walk(content).run()
