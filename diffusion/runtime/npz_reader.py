"""Reading .npz files that may be damaged or hostile: no memory is taken for what a header promises and a file lacks."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

LONGEST = 2**17
"""Bytes of an .npy file in which its header must end. NumPy's own are shorter than 2^16."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those of np.savez and np.savez_compressed. Others may take memory for a dictionary of any size."""


class Header(NamedTuple):
    """The start of an .npy file."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    length: int
    """Bytes before the data."""

    @property
    def promised(self) -> int:
        """Bytes of header and data, by the header alone."""
        return self.length + math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def one_line(message: str) -> Iterator[None]:
    """Turns whatever a damaged archive raises, which is of many types, into ValueError("message (reason)")."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{message} ({reason})") from None


def members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Name of an array -> its file in the archive. Raises ValueError where two have one name."""
    by_name = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(by_name) < len(archive.infolist()):
        raise ValueError("two arrays have one name")
    return by_name


def header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    """The header of an array. Raises ValueError and others, see `one_line`, where it is damaged or too long."""
    if info.compress_type not in METHODS:
        raise ValueError(f"compression method {info.compress_type} is not supported")
    with archive.open(info) as member:
        start = io.BytesIO(member.read(LONGEST))
    version = np.lib.format.read_magic(start)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"format {version} of .npy files is not supported")
    return Header(*reader(start), start.tell())


def size(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Bytes that reading an array takes: the length of its file, or what its header makes NumPy allocate, if more."""
    return max(info.file_size, header(archive, info).promised)


def load(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array. Its file is read whole, so that it is compared with its checksum before it is parsed."""
    return np.load(io.BytesIO(archive.read(info)), allow_pickle=False)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an uncompressed .npz file, as `atomic_files.write_npz` writes them.

    Raises ValueError, in one line, for a damaged file and for one whose arrays promise more bytes than it has; OSError
    where it cannot be opened.
    """
    with path.open("rb") as file, one_line(f"{path} is damaged"), zipfile.ZipFile(file) as archive:
        arrays = members(archive)
        promised, stored = sum(size(archive, info) for info in arrays.values()), path.stat().st_size
        if promised > stored:
            raise ValueError(f"its arrays promise {promised} bytes, and it has {stored}")
        return {name: load(archive, info) for name, info in arrays.items()}
