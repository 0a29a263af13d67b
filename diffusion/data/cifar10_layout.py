"""The official CIFAR-10 files, in both of their layouts (binary and Python), extracted or in their archive.

Binary: data_batch_1..5.bin and test_batch.bin, each 10,000 records of 1 label byte and 3,072 image bytes.
Python: data_batch_1..5 and test_batch, each a pickled dict with b"data", uint8 [10000, 3072], and b"labels", a list.
In both the image bytes are the red, the green and the blue plane of 32x32, row by row.
"""

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.source import check_labels

ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
CLASSES = 10
PER_FILE = 10_000
PLANES = (3, 32, 32)
VALUES = 3 * 32 * 32

Arrays = tuple[np.ndarray, np.ndarray]


class Layout(NamedTuple):
    """How one of the official archives keeps its images."""

    folder: str
    """The only folder of the archive."""
    train: tuple[str, ...]
    test: tuple[str, ...]
    decode: Callable[[bytes, int, str], Arrays]
    """(content of a file, number n of its images, its name for errors) -> (values uint8 [n, 3072], labels [n])."""


def read(place: Path, train: bool, per_file: int = PER_FILE) -> Arrays | None:
    """(pixels uint8 [N, 32, 32, 3], labels) of a split, in the official order; None if CIFAR-10 is not at `place`.

    place: an archive, a folder with an archive or an extracted folder in it, or the extracted folder itself. Every
    file is checked for its exact length and its labels, an archive also for its gzip checksum. Raises ValueError that
    names the file that is missing or wrong.
    """
    if place.is_file():
        return _from_archive(place, train, per_file)
    for layout in LAYOUTS:
        for folder in (place, place / layout.folder):
            if any((folder / name).is_file() for name in layout.train + layout.test):
                return _from_folder(folder, layout, train, per_file)
    archive = next((place / name for name in ARCHIVES if (place / name).is_file()), None)
    return _from_archive(archive, train, per_file) if archive else None


def _from_folder(folder: Path, layout: Layout, train: bool, per_file: int) -> Arrays:
    contents = {}
    for name in layout.train if train else layout.test:
        try:
            contents[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            raise ValueError(f"{folder / name} is missing; extract the official archive again") from None
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read ({error.strerror})") from error
    return _decoded(str(folder), contents, layout, per_file)


def _from_archive(path: Path, train: bool, per_file: int) -> Arrays:
    wanted = {name for layout in LAYOUTS for name in (layout.train if train else layout.test)}
    contents = {}
    try:
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if name in wanted and (file := archive.extractfile(member)):
                        contents[name] = file.read()
            while stream.read(1 << 20):  # To the end, where gzip compares its checksum.
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no .tar.gz archive ({error}); remove it and fetch it again") from error
    for layout in LAYOUTS:
        names = layout.train if train else layout.test
        if contents.keys() & set(names):
            missing = [name for name in names if name not in contents]
            if missing:
                raise ValueError(
                    f"{path} lacks {layout.folder}/{missing[0]}; remove it and fetch the official archive again"
                )
            return _decoded(str(path), {name: contents[name] for name in names}, layout, per_file)
    raise ValueError(
        f"{path} holds no file of the official CIFAR-10 archives, such as {LAYOUTS[0].folder}/test_batch.bin"
    )


def _decoded(place: str, contents: dict[str, bytes], layout: Layout, per_file: int) -> Arrays:
    values, labels = [], []
    for name, content in contents.items():
        title = f"{place}/{name}"
        one, its_labels = layout.decode(content, per_file, title)
        check_labels(title, its_labels, CLASSES)
        values.append(one)
        labels.append(its_labels)
    pixels = np.concatenate(values).reshape(-1, *PLANES).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), np.concatenate(labels)


def _binary(content: bytes, count: int, title: str) -> Arrays:
    expected = count * (1 + VALUES)
    if len(content) != expected:
        raise ValueError(
            f"{title} has {len(content)} bytes where {expected} are right; extract the official archive again"
        )
    records = np.frombuffer(content, np.uint8).reshape(count, 1 + VALUES)
    return records[:, 1:], records[:, 0]


class _Inert:
    """Stands for every NumPy object in a pickle and keeps what it was to be made of.

    NumPy itself is not let near a foreign pickle: an array restored from a damaged state can crash the process.
    """

    def __init__(self, *arguments: Any):
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Inspection(pickle.Unpickler):
    """Loads dicts, lists, numbers and bytes. Any other global in a pickle could run code: it is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NUMPY:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which the official files do not")
        return _Inert


NUMPY = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
UINT8 = frozenset({"u1", b"u1"})


def _python(content: bytes, count: int, title: str) -> Arrays:
    try:
        batch = _Inspection(io.BytesIO(content), encoding="bytes").load()
        # What an array leaves in a pickle: a version, its shape, its dtype, whether it is in Fortran order, its bytes.
        _, shape, dtype, fortran, values = batch[b"data"].state
        if shape != (count, VALUES) or dtype.arguments[0] not in UINT8 or len(values) != count * VALUES:
            raise ValueError(f"its data are not uint8 [{count}, {VALUES}]")
        labels = np.array(batch[b"labels"])
        if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"its labels are not {count} integers")
        pixels = np.frombuffer(values, np.uint8).reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # A damaged pickle raises errors of nearly every kind.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{title} is no batch of the official Python archive ({reason}); extract the official archive again"
        ) from error
    return pixels, labels


_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
LAYOUTS = (
    Layout("cifar-10-batches-bin", tuple(f"{name}.bin" for name in _TRAIN), ("test_batch.bin",), _binary),
    Layout("cifar-10-batches-py", _TRAIN, ("test_batch",), _python),
)
