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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.source import check_labels
from diffusion.runtime.bucket_cache import local

ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_FILE = 10_000
VALUES = 3 * 32 * 32

Arrays = tuple[np.ndarray, np.ndarray]


class Layout(NamedTuple):
    """How one of the official archives keeps its images."""

    folder: str
    """The only folder of the archive."""
    files: tuple[str, ...]
    """Five of training images, and the last of test images."""
    decode: Callable[[bytes, int, str], Arrays]
    """(content of a file, number n of its images, its name for errors) -> (values uint8 [n, 3072], labels [n])."""


def read(place: Path, train: bool, per_file: int = PER_FILE) -> Arrays | None:
    """(pixels uint8 [N, 32, 32, 3], labels) of a split, in the official order; None if CIFAR-10 is not at `place`.

    place: an archive, a folder with an archive or an extracted folder in it, or the extracted folder itself. Every
    file is checked for its exact length and its labels, an archive also for its gzip checksum. Raises ValueError that
    names the file that is missing or wrong.
    """
    official = [name for layout in LAYOUTS for name in layout.files]
    for at in (place, *(place / layout.folder for layout in LAYOUTS), *(place / name for name in ARCHIVES)):
        present = [name for name in official if (at / name).is_file()]
        if present or at.is_file():
            break
    else:
        return None
    contents = {name: _bytes(at / name) for name in present} if present else _members(at, official)
    layout = next((layout for layout in LAYOUTS if contents.keys() & set(layout.files)), None)
    if layout is None:
        raise ValueError(f"{at} holds no file of the official CIFAR-10 archives, such as {LAYOUTS[0].files[-1]}")
    values, labels = [], []
    for name in layout.files[:-1] if train else layout.files[-1:]:
        if name not in contents:
            raise ValueError(f"{at} lacks {layout.folder}/{name}; fetch and extract the official archive again")
        pixels, numbers = layout.decode(contents[name], per_file, f"{at}/{name}")
        check_labels(f"{at}/{name}", numbers, len(CLASSES))
        values.append(pixels)
        labels.append(numbers)
    pixels = np.concatenate(values).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), np.concatenate(labels)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error


def _members(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The files of these names in a .tar.gz archive."""
    contents = {}
    try:
        with gzip.open(local(path)) as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    name = Path(member.name).name
                    if name in names and (file := archive.extractfile(member)):
                        contents[name] = file.read()
            while stream.read(1 << 20):  # To the end, where gzip compares its checksum.
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no .tar.gz archive ({error}); remove it and fetch it again") from error
    return contents


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


_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
LAYOUTS = (
    Layout("cifar-10-batches-bin", tuple(f"{name}.bin" for name in _FILES), _binary),
    Layout("cifar-10-batches-py", _FILES, _python),
)
