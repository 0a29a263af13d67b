"""Tensors of a PyTorch checkpoint, read without PyTorch; no code in the file is executed.

zip     (PyTorch 1.6 and later)   NAME/data.pkl, a pickle; NAME/data/KEY, the numbers of storage KEY
legacy  (before)                  five pickles: magic number, version, the machine that wrote it, the object, keys of
                                  storages; then for each storage its count in 8 bytes and its numbers
"""

import io
import itertools
import pickle
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from diffusion.runtime.short_error_text import reason

TORCH, STORAGE, BFLOAT16 = "torch", "storage", "BFloat16Storage"
STORAGES = {
    **{"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", BFLOAT16: "<u2"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1"},
    **{"ByteStorage": "|u1", "BoolStorage": "|b1"},
}
"""PyTorch's types of storage -> NumPy's, and for bfloat16 the integers that have its bits."""

SETS = (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET)
"""Instructions that no state_dict needs, and that hash what they are given."""
LONGEST_NAME, MOST_ITEMS = 1_000, 100_000
"""Bounds that no network comes near: characters of a key, and items of all nested dictionaries."""

ZIP, PICKLE = b"PK\x03\x04", "/data.pkl"
MAGIC = 0x1950A86A20F9469CFC6C


class Storage(NamedTuple):
    """Numbers in a row in the file; tensors are views of them."""

    key: str
    kind: str
    count: int
    """Items."""


class Tensor(NamedTuple):
    """A strided view: item (i, j, ...) is number offset + i stride[0] + j stride[1] + ... of the storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


PythonUnpickler: Any = pickle._Unpickler  # pickle.Unpickler is written in C and has no methods to replace


class Unpickler(PythonUnpickler):
    """The standard library's unpickler with the names that tensors need and no others: no code runs.

    Keys of dictionaries are text or integers. The hash of a hostile tuple would end the process or take years.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        """The storages that the pickle names."""
        self._items = 0

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for. Raises ValueError for one that is no part of a tensor."""
        known = {
            ("collections", "OrderedDict"): self._dictionary,
            # Their other arguments concern training alone.
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: Tensor(*arguments[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda *arguments: arguments[0],
            **{(TORCH, kind): kind for kind in STORAGES},
        }
        if (module, name) not in known:
            raise ValueError(f"it asks for {f'{module}.{name}'[:80]!r}, which is no part of a tensor")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of ("storage", type, key, device, count, None); only PyTorch before 0.4 wrote views there."""
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and all(isinstance(part, str) for part in pid[:3])):
            raise ValueError("it has a storage of an unknown form")
        what, kind, key, _, count, *view = pid
        if what != STORAGE or kind not in STORAGES or any(view):
            raise ValueError(f"it has a storage of an unknown kind: {kind[:80]}")
        return self.storages.setdefault(key, Storage(key, kind, count))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put(self.stack[-1], [(key, value)])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(self._dictionary(list(zip(items[::2], items[1::2], strict=True))))

    def load_build(self) -> None:
        """Leaves out the attributes of an object, such as the _metadata of a state_dict."""
        self.stack.pop()

    def _dictionary(self, pairs: Sequence[Any] = ()) -> dict:
        """What OrderedDict stands for; Python 2 wrote its items as its argument."""
        result = {}
        self._put(result, pairs)
        return result

    def _put(self, target: Any, items: Iterable[Any]) -> None:
        for key, value in items:
            self._items += 1
            if type(target) is not dict or not isinstance(key, str | int) or len(str(key)) > LONGEST_NAME:
                raise ValueError("it has a dictionary whose keys are neither names nor numbers")
            if self._items > MOST_ITEMS:
                raise ValueError(f"its dictionaries have over {MOST_ITEMS:,} items")
            target[key] = value

    dispatch: ClassVar[dict] = {
        **{code: load for code, load in PythonUnpickler.dispatch.items() if code not in b"".join(SETS)},
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.BUILD[0]: load_build,
    }


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by name; those in nested dictionaries by all their keys, joined by ".".

    Arrays have the type in the file, bfloat16 ones become float32, which changes no value; they share memory where the
    tensors did and are read-only. Numbers, strings and the like are left out. Raises ValueError for what is no
    checkpoint or damaged, holds no tensor, or asks for more than tensors and containers.
    """
    with path.open("rb") as file:
        try:
            result, values = (_read_zip if file.peek(4).startswith(ZIP) else _read_legacy)(file)
            tensors = dict(_tensors(result)) if isinstance(result, dict) else {}
            if not tensors:
                raise ValueError("it holds no dictionary of tensors")
            return {name: _array(tensor, values[tensor.storage.key]) for name, tensor in tensors.items()}
        except Exception as error:  # a damaged pickle raises errors of nearly every kind
            raise ValueError(f"{path} is no PyTorch checkpoint that can be read: {reason(error)}") from None


def _read_zip(file: io.BufferedReader) -> tuple[Any, dict[str, np.ndarray]]:
    """The object, and the numbers of its storages by key."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(PICKLE)]
        if len(names) != 1:
            raise ValueError(f"the zip file has {len(names)} entries data.pkl, not one")
        root = names[0].removesuffix(PICKLE)
        if any(entry.compress_type for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch.save does not do")
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        unpickler = Unpickler(archive.open(names[0]))
        result = unpickler.load()
        return result, {key: _values(s, archive.read(f"{root}/data/{key}")) for key, s in unpickler.storages.items()}


def _read_legacy(file: io.BufferedReader) -> tuple[Any, dict[str, np.ndarray]]:
    magic, _version, system = (Unpickler(file).load() for _ in range(3))
    if magic != MAGIC or not system["little_endian"]:
        raise ValueError("it begins with another magic number, or its numbers are big-endian")
    unpickler = Unpickler(file)
    result = unpickler.load()
    values = {}
    for key in Unpickler(file).load():
        if not isinstance(key, str):
            raise ValueError("the key of a storage is no text")
        (count,) = struct.unpack("<q", file.read(8))
        storage = unpickler.storages[key]
        values[key] = _values(storage, file.read(count * np.dtype(STORAGES[storage.kind]).itemsize))
    return result, values


def _values(storage: Storage, data: bytes) -> np.ndarray:
    """The numbers of a storage, read-only."""
    values = np.frombuffer(data, STORAGES[storage.kind])
    if len(values) != storage.count:
        raise ValueError(f"storage {storage.key} has {len(values)} items, not {storage.count}")
    if storage.kind == BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
        values.flags.writeable = False
    return values


def _tensors(branch: dict, prefix: str = "", visited: Iterator[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dictionaries, by their names."""
    visited = itertools.count() if visited is None else visited
    for key, value in branch.items():
        if next(visited) > MOST_ITEMS:
            raise ValueError(f"it has over {MOST_ITEMS:,} items")
        if isinstance(value, dict):
            yield from _tensors(value, f"{prefix}{key}.", visited)
        elif isinstance(value, Tensor):
            yield f"{prefix}{key}", value


def _array(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """A view of the numbers of the storage."""
    _, offset, size, stride = tensor
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(values)):
        raise ValueError(f"a tensor of size {list(size)} reaches beyond its storage of {len(values)} items")
    width = values.itemsize
    return np.ndarray(size, values.dtype, values.data, offset * width, [step * width for step in stride])
