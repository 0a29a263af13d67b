"""Tensors of a PyTorch checkpoint, read without PyTorch; nothing in the file is executed.

zip     (PyTorch 1.6 and later)   NAME/data.pkl, a pickle; NAME/data/KEY, the numbers of storage KEY
legacy  (before)                  five pickles: magic number, version, the machine that wrote it, the object, keys of
                                  storages; then for each storage its count in 8 bytes and its numbers
"""

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.convert.torch_pickle import BFLOAT16, MAX_BYTES, STORAGES, Tensor, load

DATA, ZIP, LITTLE = "data.pkl", b"PK\x03\x04", b"little"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001

MAX_DEPTH = 16
"""Dictionaries in dictionaries."""
MAX_ENTRIES = 100_000
"""Entries of all dictionaries together."""
MAX_NAME = 500
"""Characters of a tensor's name."""

ERRORS = (
    *(ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError, MemoryError),
    *(pickle.UnpicklingError, struct.error, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError),
)
"""What reading a damaged file raises (the last three in zip files)."""


Contents = tuple[Any, dict[str, bytes]]
"""The unpickled object, and the bytes of its storages."""


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by name; those in nested dictionaries by all their keys, joined by ".".

    Arrays have the type in the file, bfloat16 ones become float32, which changes no value; they share memory where the
    tensors did and are read-only. Numbers, strings and the like are left out. Raises ValueError, in one line, for what
    is no checkpoint, is cut off or contradicts itself, for a pickle that asks for anything but tensors and containers
    or exceeds the limits above, and where there are no tensors; OSError for what cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            result, numbers = (_read_zip if file.read(4) == ZIP else _read_legacy)(file, size)
            return _arrays(_flat(result), numbers)
        except ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path} is no PyTorch checkpoint that can be read: {reason[:300]}") from None


def _read_zip(file: io.BufferedIOBase, size: int) -> Contents:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        names = [name for name in entries if name.partition("/")[2] == DATA]
        if len(names) != 1:
            raise ValueError(f"the zip file has {len(names)} entries {DATA}, not one")
        # Stored as they are, entries cannot be larger than the file, unless they overlap.
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise ValueError("the zip file is compressed, as PyTorch's never are")
        if sum(info.file_size for info in entries.values()) > size:
            raise ValueError("the zip file holds more than its size")
        root = names[0].removesuffix(DATA)
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != LITTLE:
            raise ValueError("it was written on a big-endian machine")
        result, storages = load(io.BytesIO(archive.open(names[0]).read(MAX_BYTES)))
        return result, {key: archive.read(f"{root}data/{key}") for key in storages}


def _read_legacy(file: io.BufferedIOBase, size: int) -> Contents:
    file.seek(0)
    magic, version, system = (load(file)[0] for _ in range(3))
    if magic != MAGIC or version != VERSION or not isinstance(system, dict):
        raise ValueError("it begins with another magic number or version")
    if system.get("little_endian", True) is not True:
        raise ValueError("it was written on a big-endian machine")
    result, storages = load(file)
    keys = load(file)[0]
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("the storages in the file are not those of its tensors")
    numbers = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        length = count * np.dtype(STORAGES[storages[key].kind]).itemsize
        if count != storages[key].count or length > size - file.tell():
            raise ValueError(f"storage {key} has {count} items, not {storages[key].count}, or is cut off")
        numbers[key] = file.read(length)
    return result, numbers


def _flat(result: Any) -> dict[str, Tensor]:
    """The tensors in nested dictionaries."""
    tensors: dict[str, Tensor] = {}
    entries = 0
    pending = [("", result, 0)]
    if not isinstance(result, dict):
        raise ValueError(f"it holds no dictionary of tensors but {type(result).__name__}")
    while pending:
        prefix, branch, depth = pending.pop()
        entries += len(branch)
        if depth > MAX_DEPTH or entries > MAX_ENTRIES:
            raise ValueError(f"dictionaries are nested more than {MAX_DEPTH} deep or have over {MAX_ENTRIES} entries")
        for key, value in branch.items():
            name = f"{prefix}{key}"
            if len(name) > MAX_NAME:
                raise ValueError(f"a name has more than {MAX_NAME} characters: {name[:80]}...")
            if isinstance(value, dict):
                pending.append((f"{name}.", value, depth + 1))
            elif type(value) is Tensor:
                if name in tensors:
                    raise ValueError(f"two tensors have the name {name[:80]}")
                tensors[name] = value
    if not tensors:
        raise ValueError("there are no tensors in its dictionary")
    return tensors


def _arrays(tensors: dict[str, Tensor], numbers: dict[str, bytes]) -> dict[str, np.ndarray]:
    """The tensors' values, as views of one array for each storage."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, (storage, offset, size, stride) in tensors.items():
        if storage.key not in storages:
            values = np.frombuffer(numbers[storage.key], STORAGES[storage.kind])
            if len(values) != storage.count:
                raise ValueError(f"storage {storage.key} has {len(values)} items, not {storage.count}")
            if storage.kind == BFLOAT16:
                values = (values.astype(np.uint32) << 16).view(np.float32)
            storages[storage.key] = values
        values = storages[storage.key][offset:]
        strides = [step * values.itemsize for step in stride]
        # Strides of dimensions with one item or none may be anything, even beyond the array.
        strides = [step if n > 1 and 0 not in size else 0 for n, step in zip(size, strides, strict=True)]
        arrays[name] = np.lib.stride_tricks.as_strided(values, size, strides, writeable=False)
    return arrays
