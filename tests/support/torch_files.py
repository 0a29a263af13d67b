"""A writer of PyTorch checkpoints in both formats, without PyTorch, that can also write wrong ones."""

import struct
import zipfile
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

STORAGES = {
    np.dtype(dtype): f"{name}Storage"
    for name, dtype in {
        **{"Float": np.float32, "Double": np.float64, "Half": np.float16, "BFloat16": jnp.bfloat16},
        **{"Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_},
    }.items()
}


class Name(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: Any
    arguments: Any


class Persistent(NamedTuple):
    value: Any


class Built(NamedTuple):
    target: Any
    state: Any


class Raw(NamedTuple):
    code: bytes


class View(NamedTuple):
    """A tensor: a strided view of a one-dimensional array, which is its storage."""

    storage: np.ndarray
    offset: Any
    size: Any
    stride: Any
    count: Any = None


REBUILD = Name("torch._utils", "_rebuild_tensor_v2")


def whole(array: np.ndarray) -> View:
    """An array as the only view of a storage of its own."""
    strides = tuple(np.cumprod([1, *array.shape[:0:-1]])[::-1].tolist()) if array.ndim else ()
    return View(array.reshape(-1), 0, array.shape, strides)


class Pickler:
    """Pickles of protocol 2; storages are numbered as they come."""

    def __init__(self):
        self.storages = []

    def code(self, value) -> bytes:
        match value:
            case Raw(code):
                return code
            case Name(module, name):
                return f"c{module}\n{name}\n".encode()
            case Call(function, arguments):
                return self.code(function) + self.code(arguments) + b"R"
            case Persistent(inner):
                return self.code(inner) + b"Q"
            case Built(target, state):
                return self.code(target) + self.code(state) + b"b"
            case View(storage, offset, size, stride, count):
                key = self.key(storage)
                kind = Name("torch", STORAGES[storage.dtype])
                where = Persistent(("storage", kind, key, "cpu", len(storage) if count is None else count))
                hooks = Call(Name("collections", "OrderedDict"), ())
                return self.code(Call(REBUILD, (where, offset, size, stride, False, hooks)))
            case np.ndarray():
                return self.code(whole(value))
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int() if 0 <= value < 256:
                return b"K" + bytes([value])
            case int():
                text = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                return b"\x8a" + bytes([len(text)]) + text
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
            case dict():
                return b"}(" + b"".join(self.code(k) + self.code(v) for k, v in value.items()) + b"u"
            case list():
                return b"](" + b"".join(map(self.code, value)) + b"e"
            case tuple():
                return b"(" + b"".join(map(self.code, value)) + b"t"
        raise TypeError(type(value))

    def key(self, storage) -> str:
        if not any(storage is other for other in self.storages):
            self.storages.append(storage)
        return str(next(i for i, other in enumerate(self.storages) if storage is other))

    def pickle(self, value) -> bytes:
        return b"\x80\x02" + self.code(value) + b"."


MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def write_legacy(path, value, system=SYSTEM, magic=MAGIC, keys=None):
    pickler = Pickler()
    parts = [pickler.pickle(magic), pickler.pickle(1001), pickler.pickle(system), pickler.pickle(value)]
    parts.append(pickler.pickle([str(i) for i in range(len(pickler.storages))] if keys is None else keys))
    for storage in pickler.storages:
        parts += [struct.pack("<q", len(storage)), storage.tobytes()]
    path.write_bytes(b"".join(parts))
    return path


def write_zip(path, value, compression=zipfile.ZIP_STORED, byteorder=b"little"):
    pickler = Pickler()
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickler.pickle(value))
        archive.writestr("archive/byteorder", byteorder)
        for i, storage in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{i}", storage.tobytes())
        archive.writestr("archive/version", b"3\n")
    return path
