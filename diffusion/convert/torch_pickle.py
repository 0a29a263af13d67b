"""The objects in a PyTorch checkpoint's pickles, built by a stack machine of their own that can run nothing.

A pickle is a program for a stack machine. Python's own machine may import and call whatever the program names; this one
knows the instructions with which containers, numbers, strings and tensors are written, and the names in `STORAGES` and
`CALLS`. A name is never looked up: it stands for itself on the stack, and calling it means its row of `CALLS`.
"""

import math
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

STORAGES = {
    f"torch {name}Storage": np.dtype(dtype)
    for name, dtype in {
        **{"Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": jnp.bfloat16},
        **{"Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "|i1", "Byte": "|u1", "Bool": "|b1"},
    }.items()
}
"""PyTorch's types of storage."""

KINDS = frozenset({"storage"})
"""What a pickle may refer to outside of itself."""


class Name(NamedTuple):
    """Module and name of something outside of the pickle, joined by a space."""

    text: str


class Storage(NamedTuple):
    """Numbers in a row somewhere in the file; tensors are views of them."""

    key: str
    dtype: np.dtype
    count: int
    """Items of the whole storage."""
    first: int
    """Where the part begins that tensors see: not 0 only in files older than PyTorch 0.4."""
    seen: int
    """Items of that part."""


class Tensor(NamedTuple):
    """A strided view: item (i, j, ...) is number offset + i stride[0] + j stride[1] + ... of the storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def is_count(value: Any) -> bool:
    """Whether something out of a pickle is an integer from 0 that fits into 64 bits."""
    return type(value) is int and 0 <= value < 2**63


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2. The rest of its arguments says what only training asks for."""
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("a tensor is not made of a storage, a size and strides")
    if len(size) != len(stride) or len(size) > 32 or not all(map(is_count, (offset, *size, *stride))):
        raise ValueError("a tensor has sizes or strides that are no counts")
    items = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if items and last >= storage.seen:
        raise ValueError(f"a tensor of size {list(size)} reaches beyond its storage of {storage.seen} items")
    if items > storage.seen:
        raise ValueError(f"a tensor of size {list(size)} repeats the {storage.seen} items of its storage")
    return Tensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_parameter."""
    if type(tensor) is not Tensor:
        raise ValueError("a parameter is no tensor")
    return tensor


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """collections.OrderedDict."""
    if type(pairs) not in (list, tuple) or not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("an OrderedDict is not made of pairs")
    return _with({}, [item for pair in pairs for item in pair])


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}


def _with(target: Any, items: list[Any]) -> dict[Any, Any]:
    """A dictionary with keys and values added."""
    if type(target) is not dict or len(items) % 2:
        raise ValueError("something is put into what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Strings and integers only: the hash of a million nested tuples would exhaust the interpreter's stack.
        if type(key) not in (str, int):
            raise ValueError(f"a key is of type {type(key).__name__}")
        target[key] = value
    return target


class Machine:
    """Runs one pickle: `stack` and `memo` as in Python's documentation of pickletools, `marks` apart from the stack."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        """Those that the pickle speaks of, whole."""

    def run(self, file: Any) -> Any:
        """The object of the pickle that begins where the file stands; leaves it behind that pickle's last byte.

        Raises ValueError for instructions and names that it does not know; ValueError, IndexError, KeyError or
        TypeError for what is no whole pickle.
        """
        for instruction, argument, _ in pickletools.genops(file):
            if instruction.name not in INSTRUCTIONS:
                raise ValueError(f"the instruction {instruction.name} builds no tensors")
            INSTRUCTIONS[instruction.name](self, argument)
        (result,) = self.stack
        return result

    def pop(self, n: int) -> list[Any]:
        """The last n items, which must lie above the last mark."""
        if len(self.stack) - n < (self.marks[-1] if self.marks else 0):
            raise ValueError("the stack is too short")
        items = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return items

    def pop_mark(self) -> list[Any]:
        """The items above the last mark; the mark goes too."""
        items = self.pop(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return items

    def append(self, items: list[Any]) -> None:
        """Adds items to the list on the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("something is appended to what is no list")
        self.stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        """Adds keys and values to the dictionary on the stack."""
        _with(self.stack[-1], items)

    def name(self, text: str) -> None:
        """A name, if it is one of those that tensors need."""
        if text not in CALLS and text not in STORAGES:
            raise ValueError(f"it asks for {'.'.join(text.split(' ', 1))[:80]!r}, which is no part of a tensor")
        self.stack.append(Name(text))

    def call(self) -> None:
        """Replaces a name and a tuple of arguments by what the name's row of `CALLS` makes of them."""
        function, arguments = self.pop(2)
        if type(function) is not Name or function.text not in CALLS or type(arguments) is not tuple:
            raise ValueError("it calls what cannot be called")
        self.stack.append(CALLS[function.text](*arguments))

    def build(self) -> None:
        """State, such as the _metadata of a state dict, is dropped."""
        target, _ = self.pop(2)
        if type(target) is not dict:
            raise ValueError("state is given to what has none")
        self.stack.append(target)

    def storage(self) -> None:
        """("storage", type, key, device, count, None or (key, first, count)): all that the pickle says of numbers."""
        kind, dtype, key, _, count, *view = self.pop(1)[0]
        if type(dtype) is not Name or dtype.text not in STORAGES or kind not in KINDS:
            raise ValueError("a storage is of no known type")
        first, seen = (0, count) if not view or view[0] is None else view[0][1:]
        if type(key) is not str or not all(map(is_count, (count, first, seen))) or first + seen > count:
            raise ValueError("a storage has no key, or no count of items")
        whole = Storage(key, STORAGES[dtype.text], count, 0, count)
        if self.storages.setdefault(key, whole) != whole:
            raise ValueError(f"storage {key[:80]} is of two sizes or types")
        self.stack.append(whole._replace(first=first, seen=seen))


def _push(machine: Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _nothing(machine: Machine, argument: Any) -> None:
    pass


def _remember(machine: Machine, argument: Any) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


def _global(machine: Machine, argument: Any) -> None:
    machine.name(argument if argument is not None else " ".join(map(_text, machine.pop(2))))


def _text(item: Any) -> str:
    if type(item) is not str:
        raise ValueError("a name is no text")
    return item


INSTRUCTIONS: dict[str, Callable[[Machine, Any], Any]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _push),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _nothing),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, argument: m.stack.append(m.memo[argument])),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _global),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(1),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop(3))),
    "LIST": lambda m, _: m.stack.append(m.pop_mark()),
    "DICT": lambda m, _: m.stack.append(_with({}, m.pop_mark())),
    "APPEND": lambda m, _: m.append(m.pop(1)),
    "APPENDS": lambda m, _: m.append(m.pop_mark()),
    "SETITEM": lambda m, _: m.put(m.pop(2)),
    "SETITEMS": lambda m, _: m.put(m.pop_mark()),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.storage(),
}
