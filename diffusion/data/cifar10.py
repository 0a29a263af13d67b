"""CIFAR-10 from records of TFDS, the official files, or the network, without TensorFlow.

Binary files: data_batch_1..5.bin and test_batch.bin, each 10,000 records of 1 label byte and 3,072 image bytes.
Python files: data_batch_1..5 and test_batch, each a pickled dict with b"data", uint8 [10000, 3072], and b"labels".
In both the image bytes are the red, the green and the blue plane of 32x32, row by row.
"""

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data import tfds
from diffusion.data.dataset_interface import Source, check_labels, in_memory, load
from diffusion.data.download import DownloadError, Remote, fetch
from diffusion.runtime.bucket_cache import local
from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.paths import cache_folder, expanded
from diffusion.runtime.short_error_text import reason

OFFICIAL = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
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
    decode: Callable[[bytes], Arrays]
    """Content of a file -> (values uint8 [PER_FILE, 3072], labels [PER_FILE])."""


def cifar10(train: bool, data_dir: str | os.PathLike = "", download: bool = True) -> Source:
    """The 50,000 training or the 10,000 test images, in host memory, with labels 0..9.

    Searched for in `data_dir`, in TFDS's own folder and in the download cache, in each of them first array_record files
    of TFDS, then the official archive or its extracted folder. The first that exists is checked and used: damage is an
    error, never a reason to search on. Otherwise the binary archive is downloaded into `data_dir`, or the cache.
    Raises ValueError that names what is missing or wrong; without data, the ways to supply them.
    """
    given = expanded(data_dir) if data_dir else None
    for place in (given, tfds.default_dir(), cache_folder("data")):
        if place and (source := _at(place, train)):
            return source
    folder = cache_folder("data") if given is None or isinstance(given, Bucket) else given
    try:
        if not download:
            raise DownloadError("downloads are switched off (--config.data.download)")
        archive = fetch(OFFICIAL, folder / ARCHIVES[0])
    except DownloadError as error:
        raise ValueError(
            f"CIFAR-10 is not on this machine and was not downloaded: {error}. Put {' or '.join(ARCHIVES)}, its "
            "extracted folder, or array_record files of TFDS into a folder, and name it with --config.data.dir"
        ) from error
    source = _at(archive, train)
    assert source is not None
    return source


def _at(place: Path, train: bool) -> Source | None:
    """The split at this place: a folder, the extracted folder itself or an archive; None if CIFAR-10 is not there."""
    if records := tfds.prepared("cifar10", place):
        return load(tfds.read_prepared(records, "cifar10", train))._replace(name="cifar10")
    if not (found := _files(place)):
        return None
    where, contents = found
    layout = next((layout for layout in LAYOUTS if contents.keys() & set(layout.files)), LAYOUTS[0])
    values, labels = [], []
    for name in layout.files[:-1] if train else layout.files[-1:]:
        try:
            pixels, numbers = layout.decode(contents[name])
            check_labels(name, numbers, len(CLASSES))
        except Exception as error:  # a damaged pickle raises errors of nearly every kind
            raise ValueError(
                f"{where}/{name} is missing or damaged ({reason(error)}); fetch and extract the official archive again"
            ) from error
        values.append(pixels)
        labels.append(numbers)
    images = np.concatenate(values).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return in_memory("cifar10", images, np.concatenate(labels), len(CLASSES), CLASSES)


def _files(place: Path) -> tuple[Path, dict[str, bytes]] | None:
    """Where the official files are, and their contents by name."""
    for folder in (place, *(place / layout.folder for layout in LAYOUTS)):
        paths = [folder / name for layout in LAYOUTS for name in layout.files]
        if contents := {path.name: path.read_bytes() for path in paths if path.is_file()}:
            return folder, contents
    for archive in (place, *(place / name for name in ARCHIVES)):
        if archive.is_file():
            return archive, _members(archive)
    return None


def _members(path: Path) -> dict[str, bytes]:
    """The files in a .tar.gz archive, whose checksum gzip compares."""
    try:
        content = gzip.decompress(local(path).read_bytes())
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            files = [(member.name, archive.extractfile(member)) for member in archive]
            return {Path(name).name: file.read() for name, file in files if file}
    except Exception as error:  # gzip and tarfile raise errors of many kinds
        raise ValueError(
            f"{path} is damaged or no .tar.gz archive ({reason(error)}); remove it and fetch it again"
        ) from error


def _binary(content: bytes) -> Arrays:
    records = np.frombuffer(content, np.uint8).reshape(PER_FILE, 1 + VALUES)
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
        *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
        *(("numpy", name) for name in ("ndarray", "dtype")),
    }
)
UINT8 = frozenset({"u1", b"u1"})


def _python(content: bytes) -> Arrays:
    batch = _Inspection(io.BytesIO(content), encoding="bytes").load()
    # What an array leaves in a pickle: a version, its shape, its dtype, whether it is in Fortran order, its bytes.
    _, shape, dtype, fortran, values = batch[b"data"].state
    labels = np.array(batch[b"labels"])
    if shape != (PER_FILE, VALUES) or dtype.arguments[0] not in UINT8 or labels.shape != (PER_FILE,):
        raise ValueError(f"it does not hold uint8 [{PER_FILE}, {VALUES}] and as many labels")
    return np.frombuffer(values, np.uint8).reshape(shape, order="F" if fortran else "C"), labels


_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
LAYOUTS = (
    Layout("cifar-10-batches-bin", tuple(f"{name}.bin" for name in _FILES), _binary),
    Layout("cifar-10-batches-py", _FILES, _python),
)
