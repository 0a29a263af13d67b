"""Checkpoints of TensorFlow (V2, "tensor bundles"), read without TensorFlow; nothing in the files is executed.

PREFIX.index is a sorted table in LevelDB's format: blocks of key and value with shared prefixes, each followed by a
byte for its compression (which TensorFlow does not use) and a checksum; an index of the blocks; a footer. Keys are
variable names; a value gives the place of the variable's bytes in PREFIX.data-SSSSS-of-NNNNN.
"""

import re
from collections import Counter
from io import BytesIO
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
            raise ValueError(f"{self.prefix}: {name} of shape {entry.shape} has {entry.size} bytes: damaged")
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
        header = _fields(table.pop(b""))
        entries = {key.decode(): _entry(value) for key, value in table.items()}
    except (IndexError, KeyError, UnicodeDecodeError, OverflowError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged, or no index of a TensorFlow checkpoint") from error
    except ValueError as error:
        raise ValueError(f"{index}: {error}") from error
    if header.get(2, [0])[-1]:
        raise ValueError(f"{index}: the numbers are big-endian; such checkpoints cannot be read here")
    sizes: Counter[int] = Counter()
    for entry in entries.values():
        sizes[entry.shard] += entry.size
    return Bundle(prefix, header.get(1, [1])[-1], entries, sizes)


def _table(data: bytes) -> dict[bytes, bytes]:
    """Every key and value of a table. Raises ValueError if it is damaged, its blocks overlap or it has too many."""
    if len(data) < FOOTER or data[-len(MAGIC) :] != MAGIC:
        raise ValueError("not the index of a TensorFlow checkpoint (its last bytes are others), or cut short")
    _, _, *index = _varints(BytesIO(data[-FOOTER:]), 4)  # after offset and size of the block of statistics
    table: dict[bytes, bytes] = {}
    total = 0
    for _, handle in _block(data, *index):
        offset, size = _varints(BytesIO(handle), 2)
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
    pairs, key, stream = [], b"", BytesIO(block)
    while stream.tell() < stop:
        shared, own, length = _varints(stream, 3)
        if shared > len(key) or stream.tell() + own + length > stop:
            raise ValueError("an entry reaches beyond its block: damaged")
        if shared + own > MAX_NAME or len(pairs) > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES} names, or one of more than {MAX_NAME} bytes")
        key = key[:shared] + stream.read(own)
        pairs.append((key, stream.read(length)))
    return pairs


def _entry(value: bytes) -> Entry:
    """The message BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices."""
    fields = _fields(value)
    axes = _fields(fields.get(2, [b""])[-1]).get(2, [])
    if len(axes) > MAX_AXES:
        raise ValueError(f"a variable has more than {MAX_AXES} axes: damaged")
    shape = tuple(_fields(axis).get(1, [0])[-1] for axis in axes)
    dtype, *place = (fields.get(number, [0])[-1] for number in (1, 3, 4, 5, 6))
    return Entry(dtype, shape, *place, partitioned=7 in fields)


FIXED = {1: 8, 5: 4}
"""Types of fields of fixed size in a protocol buffer -> bytes."""
VARINT, BYTES = 0, 2


def _fields(message: bytes) -> dict[int, list]:
    """The fields of a protocol buffer by number: integers, and bytes as they are."""
    fields: dict[int, list] = {}
    stream = BytesIO(message)
    while stream.tell() < len(message):
        number, kind = divmod(_varints(stream, 1)[0], 8)
        if kind == VARINT:
            (value,) = _varints(stream, 1)
        elif kind in (*FIXED, BYTES):
            length = FIXED.get(kind) or _varints(stream, 1)[0]
            value = stream.read(length)
            if len(value) < length:
                raise ValueError("a record is cut short: damaged")
            value = int.from_bytes(value, "little") if kind in FIXED else value
        else:
            raise ValueError("a record has a field of no known type: damaged")
        fields.setdefault(number, []).append(value)
    return fields


def _varints(stream: BytesIO, count: int) -> list[int]:
    """Integers in groups of 7 bits, lowest first. Raises IndexError at the end of the stream."""
    values = []
    for _ in range(count):
        value = shift = 0
        while True:
            byte = stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 63:
                raise ValueError("a number of more than 64 bits: damaged")
        values.append(value)
    return values
