"""The objects in a PyTorch checkpoint's pickles, by Python's unpickler with an allow-list of names and instructions.

Instructions alone can crash an interpreter or exhaust memory: the hash of deeply nested tuples overflows the C stack,
that of tuples that share their items takes exponential time, a large memo index allocates gigabytes. So keys of
dictionaries are text or small integers, the memo is a dictionary (the unpickler is the one written in Python), and a
pickle has at most MAX_BYTES and calls functions on at most MAX_ITEMS items.
"""

import io
import math
import pickle
from typing import Any, NamedTuple

TORCH, STORAGE, BFLOAT16 = "torch", "storage", "BFloat16Storage"
STORAGES = {
    **{"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", BFLOAT16: "<u2"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1"},
    **{"ByteStorage": "|u1", "BoolStorage": "|b1"},
}
"""PyTorch's types of storage -> NumPy's, and for bfloat16 the integers that have its bits."""

MAX_BYTES = 2 * 2**20
"""Of one pickle; the tensors' numbers stand outside it. A tensor takes about 200 bytes."""
MAX_ITEMS = 100_000
"""In the arguments of all calls together; one pickled list may be the argument of many."""
MAX_AXES = 32


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


def load(file: io.BufferedIOBase) -> tuple[Any, dict[str, Storage]]:
    """The object of the pickle at the file's position, and the storages that it names."""
    start = file.tell()
    code = io.BytesIO(file.read(MAX_BYTES))
    unpickler = Unpickler(code)
    result = unpickler.load()
    file.seek(start + code.tell())
    return result, unpickler.storages


class Dict(dict):
    """A dictionary whose keys have a cheap hash: text and small integers. Raises ValueError for others."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not str and not (type(key) is int and abs(key) < 2**63):
            raise ValueError("a key of a dictionary is neither text nor an integer")
        super().__setitem__(key, value)


def _is_count(value: Any) -> bool:
    """Whether something in a pickle is an integer from 0 that fits into 64 bits."""
    return type(value) is int and 0 <= value < 2**63


def _dict(pairs: Any = ()) -> Dict:
    """collections.OrderedDict."""
    result = Dict()
    for key, value in pairs:
        result[key] = value
    return result


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2; its other arguments concern training alone."""
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("a tensor is not made of a storage, a size and strides")
    if len(size) != len(stride) or len(size) > MAX_AXES or not all(map(_is_count, (offset, *size, *stride))):
        raise ValueError("a tensor has sizes or strides that are no counts")
    items = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if items and last >= storage.count:
        raise ValueError(f"a tensor of size {list(size)} reaches beyond its storage of {storage.count} items")
    if items > storage.count:
        raise ValueError(f"a tensor of size {list(size)} repeats the {storage.count} items of its storage")
    return Tensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_parameter."""
    if type(tensor) is not Tensor:
        raise ValueError("a parameter is no tensor")
    return tensor


CALLS = {
    ("collections", "OrderedDict"): _dict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class Instructions(dict):
    """Code of an instruction -> what the unpickler does, for the instructions of state dicts alone."""

    def __missing__(self, code: int) -> Any:
        raise ValueError(f"the instruction {bytes([code])!r} builds no tensors")


PYTHON_UNPICKLER: Any = pickle._Unpickler  # pyright: ignore


class Unpickler(PYTHON_UNPICKLER):
    """Python's unpickler with the names and the instructions of tensors alone."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        """The storages that the pickle names."""
        self.items = 0
        """Items in the arguments of all calls so far."""

    def find_class(self, module: str, name: str) -> Any:
        """A callable of `CALLS`, or the name of a type of storage. Raises ValueError for any other name."""
        if module == TORCH and name in STORAGES:
            return name
        if (module, name) not in CALLS:
            raise ValueError(f"it asks for {f'{module}.{name}'[:80]!r}, which is no part of a tensor")
        return CALLS[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of ("storage", type, key, device, count); a None may follow.

        Views of storages, which only PyTorch before 0.4 wrote there, are refused.
        """
        if type(pid) is not tuple or len(pid) < 5 or pid[5:] not in ((), (None,)):
            raise ValueError("a storage is not described by its type, key and count")
        what, kind, key, _, count = pid[:5]
        if not all(type(item) is str for item in (what, kind, key)) or what != STORAGE or kind not in STORAGES:
            raise ValueError("a storage is of no known type, or has no key")
        if not _is_count(count):
            raise ValueError("a storage has no count of items")
        storage = Storage(key, kind, count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key[:80]} is of two sizes or types")
        return storage

    def load_empty_dict(self) -> None:
        self.append(Dict())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_dict(zip(items[::2], items[1::2], strict=True)))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.items += len(arguments) + sum(len(a) for a in arguments if type(a) in (list, tuple))
        if self.items > MAX_ITEMS:
            raise ValueError(f"it calls functions on more than {MAX_ITEMS} items")
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        """Drops the state of an OrderedDict, such as the _metadata of a state dict."""
        self.stack.pop()
        if type(self.stack[-1]) is not Dict:
            raise ValueError("it changes what is no dictionary")

    dispatch = Instructions(
        {
            vars(pickle)[name][0]: PYTHON_UNPICKLER.dispatch[vars(pickle)[name][0]]
            for name in (
                *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "FLOAT", "BINFLOAT", "BINBYTES"),
                *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING"),
                *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES", "BINPERSID", "GLOBAL", "STACK_GLOBAL"),
                *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
                *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "SETITEM", "SETITEMS"),
            )
        }
        | {
            **{pickle.EMPTY_DICT[0]: load_empty_dict, pickle.DICT[0]: load_dict},
            **{pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build},
        }
    )
