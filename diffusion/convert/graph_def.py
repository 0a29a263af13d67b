"""Constants of a frozen TensorFlow graph, read from the bytes of its GraphDef without TensorFlow.

Protocol buffers are sequences of (field number, kind, value). Of the messages only what holds constants is read:

    GraphDef     1: NodeDef, repeated
    NodeDef      1: name  2: op  5: attributes, entries of (1: key, 2: AttrValue)
    AttrValue    8: TensorProto
    TensorProto  1: type  2: TensorShapeProto  4: content, or one of the lists of values in LISTS
    TensorShapeProto  2: dimensions, of (1: size)
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

CONST = b"Const"


class Type(NamedTuple):
    """A numeric type of TensorFlow: its NumPy type, and the field of TensorProto that may list its values."""

    dtype: str
    field: int
    varints: bool
    """Whether that list is of varints; otherwise its items have the size of the type."""


TYPES = {
    1: Type("<f4", 5, False),
    2: Type("<f8", 6, False),
    3: Type("<i4", 7, True),
    4: Type("|u1", 7, True),
    5: Type("<i2", 7, True),
    6: Type("|i1", 7, True),
    9: Type("<i8", 10, True),
    10: Type("|b1", 11, True),
    19: Type("<f2", 13, True),
}
"""TensorFlow's number -> type. Constants of other types (strings, resources) are left out."""

FIXED = {1: 8, 5: 4}
"""Kinds of field whose values have a fixed number of bytes."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Every numeric constant of a GraphDef file by its node's name. Nothing in the file is executed.

    Raises ValueError, in one line, for what is no GraphDef, is cut off, contradicts itself or holds no constant.
    """
    data = path.read_bytes()
    try:
        constants = dict(_constants(memoryview(data)))
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise ValueError(f"{path} is no whole TensorFlow graph: {error}") from None
    if not constants:
        raise ValueError(f"{path} is no frozen TensorFlow graph: there are no constants in it")
    return constants


def _constants(graph: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    for node in _messages(graph, 1):
        if bytes(_last(node, 2)) == CONST:
            attributes = {bytes(_last(entry, 1)): entry for entry in _messages(node, 5)}
            value = attributes.get(b"value", memoryview(b""))
            tensor = _last(_last(value, 2), 8)
            found = _array(tensor, len(graph))
            if found is not None:
                yield bytes(_last(node, 1)).decode(), found


def _array(tensor: memoryview, most: int) -> np.ndarray | None:
    """The array of a TensorProto, None for types that are no numbers. `most`: bytes that it may have at the most."""
    number = next((value for field, value in _fields(tensor) if field == 1), None)
    if number is None or not isinstance(number, int) or number not in TYPES:
        return None
    kind = TYPES[number]
    dtype = np.dtype(kind.dtype)
    shape = tuple(
        next((size for field, size in _fields(dim) if field == 1 and isinstance(size, int)), 0)
        for dim in _messages(_last(tensor, 2), 2)
    )
    count = math.prod(shape)
    if count * dtype.itemsize > most:
        raise ValueError(f"a constant of shape {list(shape)} does not fit into the file")
    content = _last(tensor, 4)
    values = np.frombuffer(content, dtype) if len(content) else _listed(tensor, kind)
    if len(values) == 1:
        return np.broadcast_to(values.reshape((1,) * len(shape)), shape)  # one value stands for all
    if len(values) != count:
        raise ValueError(f"a constant of shape {list(shape)} has {len(values)} values")
    return values.reshape(shape)


def _listed(tensor: memoryview, kind: Type) -> np.ndarray:
    """The values of a TensorProto that lists them one by one or packed together."""
    dtype = np.dtype(kind.dtype)
    values: list[np.ndarray] = []
    for field, value in _fields(tensor):
        if field != kind.field:
            continue
        if isinstance(value, int):
            numbers = [value]
        elif kind.varints:
            numbers = list(_varints(value))
        else:
            values.append(np.frombuffer(value, dtype))
            continue
        # Negative numbers are written as 64-bit ones; halves as the integer that has their bits.
        wide = np.array(numbers, np.uint64)
        bits = wide.astype(f"<u{dtype.itemsize}")
        values.append(bits.view(dtype))
    return np.concatenate(values) if values else np.empty(0, dtype)


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The sub-messages in a field."""
    for field, value in _fields(message):
        if field == wanted:
            if isinstance(value, int):
                raise ValueError(f"field {field} holds a number where a message belongs")
            yield value


def _last(message: memoryview, wanted: int) -> memoryview:
    """The last sub-message or string in a field, which is the one that counts; empty if there is none."""
    return [memoryview(b""), *_messages(message, wanted)][-1]


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message: an integer for varints, bytes for everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield field, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        else:
            length = FIXED.get(kind, -1)
        if length < 0 or not field:
            raise ValueError(f"no field begins at byte {at}")
        if at + length > len(message):
            raise ValueError(f"a field of {length} bytes reaches beyond the end")
        yield field, message[at : at + length]
        at += length


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, lowest first, and where the next field begins."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise ValueError("a number is cut off")
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value & (2**64 - 1), at + i + 1
    raise ValueError("a number has more than ten bytes")
