"""Tensors of a PyTorch checkpoint, of either format, read without PyTorch and without executing anything in the file.

zip     (PyTorch 1.6 and later)   NAME/data.pkl, a pickle; NAME/data/KEY, the numbers of storage KEY
legacy  (before)                  five pickles: magic number, version, the machine that wrote it, the object, keys of
                                  storages; then for each storage its count in 8 bytes and its numbers
"""

import io
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from diffusion.convert.torch_pickle import Machine, Storage, Tensor

DATA = "data.pkl"
ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
LITTLE = b"little"
WIDER = {np.dtype(jnp.bfloat16): np.dtype(np.float32)}
"""Types that NumPy lacks -> those that hold their values."""

DEPTH = 16
"""Dictionaries in dictionaries, at most."""
ENTRIES = 100_000
"""Of all dictionaries together, at most."""

BROKEN = (
    *(ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError, MemoryError),
    *(struct.error, zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError),
)
"""What goes wrong in a file that is none, or not whole (the last three in zip files)."""


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by name; those in nested dictionaries by all their keys, joined by ".".

    Arrays have the type in the file, bfloat16 ones become float32, which changes no value; they share memory where the
    tensors did and are read-only. Numbers, strings and the like are left out. Raises ValueError, in one line, for what
    is no checkpoint, is cut off or contradicts itself, for a pickle that asks for anything but tensors and containers,
    and where there are no tensors; OSError for what cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            result, numbers = (_zipped if file.read(4) == ZIP else _legacy)(file, size)
            return _arrays(_flat(result), numbers)
        except BROKEN as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path} is no PyTorch checkpoint that can be read: {reason[:300]}") from None


Found = tuple[Any, dict[str, bytes]]
"""The unpickled object, and the bytes of its storages."""


def _zipped(file: IO[bytes], size: int) -> Found:
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
        result, storages = _run(io.BytesIO(archive.read(names[0])))
        return result, {key: archive.read(f"{root}data/{key}") for key in storages}


def _legacy(file: IO[bytes], size: int) -> Found:
    pickles = Bounded(file, size)
    magic, version, system = (_run(pickles)[0] for _ in range(3))
    if magic != MAGIC or version != VERSION or type(system) is not dict:
        raise ValueError("it begins with another magic number or version")
    if system.get("little_endian", True) is not True:
        raise ValueError("it was written on a big-endian machine")
    result, storages = _run(pickles)
    keys, _ = _run(pickles)
    if type(keys) is not list or len(set(keys)) != len(keys) or set(keys) != storages.keys():
        raise ValueError("the storages in the file are not those of its tensors")
    numbers = {}
    for key in keys:
        (count,) = struct.unpack("<q", pickles.read(8))
        length = count * storages[key].dtype.itemsize
        if count != storages[key].count or length > size - file.tell():
            raise ValueError(f"storage {key} has {count} items, not {storages[key].count}, or is cut off")
        numbers[key] = pickles.read(length)
    return result, numbers


class Bounded:
    """A file for which nobody allocates more than it holds, however much it is asked for."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        file.seek(0)
        self.file, self.size, self.tell = file, size, file.tell

    def read(self, n: int) -> bytes:
        return self.file.read(min(n, self.size))

    def readline(self) -> bytes:
        return self.file.readline()


def _run(file: Any) -> tuple[Any, dict[str, Storage]]:
    """The object of the next pickle, and the storages that it speaks of."""
    machine = Machine()
    return machine.run(file), machine.storages


def _flat(result: Any) -> dict[str, Tensor]:
    """The tensors in nested dictionaries."""
    tensors: dict[str, Tensor] = {}
    seen = 0
    todo = [("", result, 0)]
    if type(result) is not dict:
        raise ValueError(f"it holds no dictionary of tensors but {type(result).__name__}")
    while todo:
        prefix, branch, depth = todo.pop()
        seen += len(branch)
        if depth > DEPTH or seen > ENTRIES:
            raise ValueError(f"dictionaries are nested more than {DEPTH} deep or have over {ENTRIES} entries")
        for key, value in branch.items():
            name = f"{prefix}{key}"
            if type(value) is dict:
                todo.append((f"{name}.", value, depth + 1))
            elif type(value) is Tensor:
                if name in tensors:
                    raise ValueError(f"two tensors go by the name of {name[:80]}")
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
            values = np.frombuffer(numbers[storage.key], storage.dtype)
            if len(values) != storage.count:
                raise ValueError(f"storage {storage.key} has {len(values)} items, not {storage.count}")
            storages[storage.key] = values.astype(WIDER.get(storage.dtype, storage.dtype), copy=False)
        values = storages[storage.key][storage.first + offset :]
        strides = [step * values.itemsize for step in stride]
        # Strides of dimensions with one item or none may be anything, even beyond the array.
        strides = [step if n > 1 and 0 not in size else 0 for n, step in zip(size, strides, strict=True)]
        arrays[name] = np.lib.stride_tricks.as_strided(values, size, strides, writeable=False)
    return arrays
