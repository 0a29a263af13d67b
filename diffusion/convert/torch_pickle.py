"""The objects in a PyTorch checkpoint's pickles, loaded by Python's unpickler without executing anything in them.

The unpickler may use the names in `STORAGES` and `CALLS` and nothing else. That stops code, but not instructions that
crash the interpreter or exhaust memory: the hash of deeply nested tuples overflows the C stack, tuples that share their
items take exponential time to hash, and one large memo index allocates gigabytes. So the instructions are checked
first. Those that pass build only strings, numbers, tensors, and containers whose keys are strings or integers.
"""

import io
import math
import pickle
import pickletools
from itertools import chain
from typing import Any, NamedTuple

TORCH, STORAGE = "torch", "storage"
BFLOAT16 = "BFloat16Storage"
STORAGES = {
    **{"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", BFLOAT16: "<u2"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1"},
    **{"ByteStorage": "|u1", "BoolStorage": "|b1"},
}
"""PyTorch's types of storage -> NumPy's, and for bfloat16 the integers that have its bits."""

MAX_BYTES = 16 * 2**20
"""Of one pickle; the tensors' numbers stand outside it. A tensor takes about 200 bytes."""
MAX_INSTRUCTIONS = 1_000_000
"""A tensor takes about 40."""

PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
GLOBALS = frozenset({"GLOBAL", "STACK_GLOBAL"})
REDUCE = frozenset({"REDUCE"})
DICTS = frozenset({"EMPTY_DICT", "DICT", *REDUCE})
LISTS = frozenset({"EMPTY_LIST", "LIST"})
KEYS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    }
)
"""What makes the keys of dictionaries: the hash of an integer or a string is cheap."""
KEYED = frozenset({"DICT", "SETITEM", "SETITEMS"})
CHANGED = {"APPEND": LISTS, "APPENDS": LISTS, "SETITEM": DICTS, "SETITEMS": DICTS, "BUILD": REDUCE}
"""Instructions that change the item on top of the stack -> what must have made that item."""
OTHERS = frozenset(
    {
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "FLOAT", "BINFLOAT", "BINBYTES"),
        *("SHORT_BINBYTES", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINPERSID"),
    }
)
ALLOWED = frozenset(chain(PUTS, GETS, GLOBALS, DICTS, LISTS, KEYS, CHANGED, OTHERS))


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
    """The object of the pickle that begins where the file stands, and the storages that it names."""
    start = file.tell()
    code = file.read(MAX_BYTES)
    length = checked_length(code)
    file.seek(start + length)
    unpickler = Unpickler(io.BytesIO(code[:length]), encoding="utf-8")
    return unpickler.load(), unpickler.storages


class Unpickler(pickle.Unpickler):
    """Python's unpickler with the names of tensors alone."""

    def __init__(self, file: io.BufferedIOBase, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.storages: dict[str, Storage] = {}
        """The storages that the pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        """The callable of `CALLS`, or the name of a type of storage. Raises ValueError for any other name."""
        if module == TORCH and name in STORAGES:
            return name
        if (module, name) not in CALLS:
            raise ValueError(f"it asks for {f'{module}.{name}'[:80]!r}, which is no part of a tensor")
        return CALLS[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of ("storage", type, key, device, count); a None may follow.

        Views of storages, which only PyTorch before 0.4 wrote there, are refused.
        """
        if type(pid) is not tuple or len(pid) < 5 or any(item is not None for item in pid[5:]):
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


class OrderedDict(dict):
    """collections.OrderedDict; drops its state, such as the _metadata of a state dict."""

    __slots__ = ()

    def __init__(self, pairs: Any = ()) -> None:
        if not all(type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, int) for pair in pairs):
            raise ValueError("an OrderedDict is not made of pairs")
        super().__init__(pairs)

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2; its other arguments concern training alone."""
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple:
        raise ValueError("a tensor is not made of a storage, a size and strides")
    if len(size) != len(stride) or len(size) > 32 or not all(map(_is_count, (offset, *size, *stride))):
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
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def _is_count(value: Any) -> bool:
    """Whether something out of a pickle is an integer from 0 that fits into 64 bits."""
    return type(value) is int and 0 <= value < 2**63


def checked_length(code: bytes) -> int:
    """Bytes of the pickle that `code` begins with.

    Follows the stack and the memo; an item is represented by the name of the instruction that made it. Raises
    ValueError for an instruction that no state dict needs, a key that is neither text nor integer, a call or a change
    of what is neither callable nor changeable, a memo index out of order, and more than `MAX_INSTRUCTIONS`.
    """
    stack: list[str] = []
    marks: list[int] = []
    memo: dict[int, str] = {}
    end = 0
    for count, (opcode, argument, at) in enumerate(pickletools.genops(code)):
        name, end = opcode.name, (at or 0) + 1
        if name not in ALLOWED:
            raise ValueError(f"the instruction {name} builds no tensors")
        if count >= MAX_INSTRUCTIONS:
            raise ValueError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
        if name in PUTS:
            index: int = len(memo) if argument is None else argument
            if not stack or not 0 <= index <= len(memo) + 1:  # Python 2 counts from 1
                raise ValueError("a memo index is out of order")
            memo[index] = stack[-1]
        elif name in GETS:
            stack.append(memo[argument or 0])
        else:
            _step(opcode, stack, marks)
    return end


def _step(opcode: pickletools.OpcodeInfo, stack: list[str], marks: list[int]) -> None:
    """Removes from the stack what an instruction takes and adds what it makes."""
    name, takes, makers = opcode.name, len(opcode.stack_before), CHANGED.get(opcode.name)
    if pickletools.markobject in opcode.stack_before:
        first = marks.pop()
    else:
        first = len(stack) - takes + (makers is not None)
    if first < (marks[-1] if marks else 0):
        raise ValueError("the stack is too short")
    taken = stack[first:]
    del stack[first:]
    if name in KEYED and not KEYS.issuperset(taken[::2]):
        raise ValueError("a key of a dictionary is neither text nor an integer")
    if name in REDUCE and taken[0] not in GLOBALS:
        raise ValueError("it calls what cannot be called")
    if pickletools.markobject in opcode.stack_after:
        marks.append(len(stack))
    elif makers is None:
        stack += [name] * len(opcode.stack_after)
    elif len(stack) <= (marks[-1] if marks else 0) or stack[-1] not in makers:
        raise ValueError("it changes what is no list, dictionary or object")
