"""Checkpoints of TensorFlow (V2, "tensor bundles"), read without TensorFlow; nothing in the files is executed.

PREFIX.index is a sorted table in LevelDB's format: blocks of key and value with shared prefixes, each followed by a
byte for its compression (which TensorFlow does not use) and a checksum; an index of the blocks; a footer. Keys are
variable names; a value gives the place of the variable's bytes in PREFIX.data-SSSSS-of-NNNNN.
"""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48
TRAILER = 5
MAX_BYTES = 64 * 2**20
"""Of an index; one of a thousand variables has 100 kB."""
MAX_ENTRIES = 100_000
MAX_NAME = 1_000
"""Bytes of a variable's name. Names share prefixes, so a small file can hold long ones."""
MAX_AXES = 16

SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})")

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
    sizes: Counter[int]
    """Shard -> bytes of all its variables."""

    def read(self, name: str) -> np.ndarray:
        """A variable. Raises ValueError if its type is not numeric, or its bytes are missing or damaged."""
        entry = self.entries[name]
        if entry.dtype not in DTYPES or entry.partitioned:
            raise ValueError(f"{self.prefix}: {name} is text, partitioned, or of a type that cannot be read here")
        dtype = np.dtype(DTYPES[entry.dtype])
        if entry.size != dtype.itemsize * int(np.prod(entry.shape, dtype=object)):
            raise ValueError(f"{self.prefix}: {name} of shape {entry.shape} takes {entry.size} bytes? damaged")
        path = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.shards:05d}")
        if not path.is_file():
            raise ValueError(f"{path} is missing: a checkpoint is its .index and all of its .data files")
        if (end := max(entry.offset + entry.size, self.sizes[entry.shard])) > path.stat().st_size:
            raise ValueError(f"{path} is cut short: {name} needs {end} bytes of it")
        with path.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if _checksum(data) != entry.checksum:
            raise ValueError(f"{path} is damaged: the checksum of {name} is wrong")
        return np.frombuffer(data, dtype).reshape(entry.shape)


def open_bundle(path: Path) -> Bundle:
    """The index of a checkpoint, given by its prefix or any of its files.

    Raises ValueError where there is none, and where it is damaged or of another format (such as V1).
    """
    prefix = path.with_name(SUFFIX.sub("", path.name))
    index = prefix.with_name(prefix.name + ".index")
    if not index.is_file():
        raise ValueError(f"{index}: no such file; give the prefix of a TensorFlow checkpoint, such as model.ckpt-7")
    if index.stat().st_size > MAX_BYTES:
        raise ValueError(f"{index} has more than {MAX_BYTES} bytes: no index of a TensorFlow checkpoint")
    try:
        table = _table(index.read_bytes())
        shards, little = _header(table.pop(b""))
        entries = {key.decode(): _entry(value) for key, value in table.items()}
    except (IndexError, KeyError, UnicodeDecodeError, OverflowError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged, or no index of a TensorFlow checkpoint") from error
    except ValueError as error:
        raise ValueError(f"{index}: {error}") from error
    if not little:
        raise ValueError(f"{index}: the numbers are big-endian; such checkpoints cannot be read here")
    sizes: Counter[int] = Counter()
    for entry in entries.values():
        sizes[entry.shard] += entry.size
    return Bundle(prefix, shards, entries, sizes)


def _table(data: bytes) -> dict[bytes, bytes]:
    """Every key and value of a table. Raises ValueError if it is damaged, its blocks overlap or it has too many."""
    if len(data) < FOOTER or data[-len(MAGIC) :] != MAGIC:
        raise ValueError("not the index of a TensorFlow checkpoint (its last bytes are others), or cut short")
    footer = data[-FOOTER:]
    _, at = _handle(footer, 0)  # of the block of statistics
    (offset, size), _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    total = 0
    for _, handle in _block(data, offset, size):
        (offset, size), _ = _handle(handle, 0)
        total += size + TRAILER
        if total > len(data):
            raise ValueError("its blocks overlap: damaged")
        table.update(_block(data, offset, size))
        if len(table) > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES} variables")
    return table


def _checksum(data: bytes) -> int:
    """CRC-32C as TensorFlow and LevelDB store it: rotated right by 15 bits, plus a constant.

    This way a checksum over data that contain checksums keeps its strength.
    """
    import google_crc32c

    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _block(data: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    end = offset + size
    if end + TRAILER > len(data):
        raise ValueError("a block reaches beyond the end: cut short")
    block, trailer = data[offset:end], data[end : end + TRAILER]
    if _checksum(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise ValueError("the checksum of a block is wrong: damaged")
    if trailer[0]:
        raise ValueError("a block is compressed, which no checkpoint of TensorFlow is")
    restarts = int.from_bytes(block[-4:], "little")
    stop = len(block) - 4 * (restarts + 1)
    pairs, key, at = [], b"", 0
    while at < stop:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + own + length > stop:
            raise ValueError("an entry reaches beyond its block: damaged")
        if shared + own > MAX_NAME or len(pairs) > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES} names, or one of more than {MAX_NAME} bytes")
        key = key[:shared] + block[at : at + own]
        pairs.append((key, block[at + own : at + own + length]))
        at += own + length
    return pairs


def _header(value: bytes) -> tuple[int, bool]:
    """Number of data files, and whether numbers are little-endian."""
    fields = _fields(value)
    return fields.get(1, [1])[-1], not fields.get(2, [0])[-1]


def _entry(value: bytes) -> Entry:
    fields = _fields(value)
    axes = _fields(fields.get(2, [b""])[-1]).get(2, [])
    if len(axes) > MAX_AXES:
        raise ValueError(f"a variable has more than {MAX_AXES} axes: damaged")
    sizes = [_fields(axis).get(1, [0])[-1] for axis in axes]
    number = {key: values[-1] for key, values in fields.items()}
    place = [number.get(key, 0) for key in (3, 4, 5, 6)]
    return Entry(number.get(1, 0), tuple(sizes), *place, partitioned=7 in fields)


def _fields(message: bytes) -> dict[int, list]:
    """The fields of a protocol buffer by number: integers, and bytes not looked into."""
    fields: dict[int, list] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
        else:
            length = FIXED.get(kind)
            if length is None:
                length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
            if len(value) < length or kind not in WIRES:
                raise ValueError("a record is cut short: damaged")
            value = value if kind not in FIXED else int.from_bytes(value, "little")
        fields.setdefault(number, []).append(value)
    return fields


FIXED = {1: 8, 5: 4}
WIRES = (1, 2, 5)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer in groups of 7 bits, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits: damaged")


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the handle ends."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at
