"""Checkpoints of TensorFlow (V2, "tensor bundles"), read without TensorFlow; nothing in the files is executed.

PREFIX.index is a sorted table in LevelDB's format: blocks of key and value with shared prefixes, each followed by a
byte for its compression (which TensorFlow does not use) and a checksum; an index of the blocks; a footer. Keys are
variable names; a value gives the place of the variable's bytes in PREFIX.data-SSSSS-of-NNNNN.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from diffusion.runtime.short_error_text import reason

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48
TRAILER = 5

SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})")

LONGEST_NAME, MOST_NAMES = 1_000, 100_000
"""Bounds that no network comes near: an index of kilobytes can stand for names of gigabytes."""

DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2"}
"""TensorFlow's number of a type -> NumPy's name of it."""


class Entry(NamedTuple):
    """The place of a variable."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    partitioned: bool


class Bundle(NamedTuple):
    """A checkpoint: its index, and the prefix of its files."""

    prefix: Path
    shards: int
    entries: dict[str, Entry]

    def read(self, name: str) -> np.ndarray:
        """A variable. Raises ValueError if its type is not numeric, or its bytes are missing or damaged."""
        entry = self.entries[name]
        if entry.dtype not in DTYPES or entry.partitioned:
            raise ValueError(f"{self.prefix}: {name} is text, partitioned, or of a type that cannot be read here")
        path = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.shards:05d}")
        if not path.is_file():
            raise ValueError(f"{path} is missing: a checkpoint is its .index and all of its .data files")
        if entry.offset + entry.size > path.stat().st_size:
            raise ValueError(f"{path} is cut short: {name} needs {entry.size} bytes at {entry.offset}")
        with path.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if _checksum(data) != entry.checksum:
            raise ValueError(f"{path} is damaged or cut short: the checksum of {name} is wrong")
        return np.frombuffer(data, DTYPES[entry.dtype]).reshape(entry.shape)


def open_bundle(path: Path) -> Bundle:
    """The index of a checkpoint, given by its prefix or any of its files.

    Raises ValueError where there is none, and where it is damaged or of another format (such as V1).
    """
    prefix = path.with_name(SUFFIX.sub("", path.name))
    index = prefix.with_name(prefix.name + ".index")
    if not index.is_file():
        raise ValueError(f"{index}: no such file; give the prefix of a TensorFlow checkpoint, such as model.ckpt-7")
    try:
        pairs = list(itertools.islice(_table(index.read_bytes()), MOST_NAMES + 1))
        if len(pairs) > MOST_NAMES:
            raise ValueError(f"it has over {MOST_NAMES:,} variables")
        table = dict(pairs)
        header = _fields(table.pop(b""))
        if header.get(2, [0])[-1]:
            raise ValueError("its numbers are big-endian")
        entries = {key.decode(): _entry(value) for key, value in table.items()}
    except Exception as error:  # damaged bytes raise errors of many kinds
        raise ValueError(f"{index} is damaged, or no index of a TensorFlow checkpoint ({reason(error)})") from error
    return Bundle(prefix, header.get(1, [1])[-1], entries)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of a table."""
    if not data.endswith(MAGIC):
        raise ValueError("its last bytes are others")
    _, _, *index = _varints(BytesIO(data[-FOOTER:]), 4)  # after offset and size of the block of statistics
    for _, handle in _block(data, *index):
        yield from _block(data, *_varints(BytesIO(handle), 2))


def _checksum(data: bytes) -> int:
    """CRC-32C as TensorFlow and LevelDB store it: rotated right by 15 bits, plus a constant.

    This way a checksum over data that contain checksums keeps its strength.
    """
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    block, trailer = data[offset : offset + size], data[offset + size : offset + size + TRAILER]
    if _checksum(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise ValueError("the checksum of a block is wrong")
    if trailer[0]:
        raise ValueError("a block is compressed, which no checkpoint of TensorFlow is")
    restarts = int.from_bytes(block[-4:], "little")
    key, stream = b"", BytesIO(block)
    while stream.tell() < len(block) - 4 * (restarts + 1):
        shared, own, length = _varints(stream, 3)
        key = key[:shared] + stream.read(own)
        if len(key) > LONGEST_NAME:
            raise ValueError(f"the name of a variable has over {LONGEST_NAME:,} bytes")
        yield key, stream.read(length)


def _entry(value: bytes) -> Entry:
    """The message BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices."""
    fields = _fields(value)
    axes = _fields(fields.get(2, [b""])[-1]).get(2, [])
    shape = tuple(_fields(axis).get(1, [0])[-1] for axis in axes)
    dtype, *place = (fields.get(number, [0])[-1] for number in (1, 3, 4, 5, 6))
    return Entry(dtype, shape, *place, partitioned=7 in fields)


def _fields(message: bytes) -> dict[int, list[Any]]:
    """The fields of a protocol buffer by number: integers, and bytes as they are."""
    fields: dict[int, list[Any]] = defaultdict(list)
    for field in UnknownFieldSet(Empty.FromString(message)):
        fields[field.field_number].append(field.data)
    return fields


def _varints(stream: BytesIO, count: int) -> list[int]:
    """Integers in groups of 7 bits, lowest first. Raises IndexError at the end of the stream."""
    values = []
    for _ in range(count):
        value = shift = 0
        more = True
        while more:
            byte = stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            more = byte >= 0x80
        values.append(value)
    return values
