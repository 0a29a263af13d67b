"""Files that appear whole or not at all. Imports nothing heavy.

Every write goes to a file with a unique temporary name in the same folder, which then takes the place of the target.
A reader sees the old content or the new one, and processes that write the same file at once do not meet. A file of a
bucket is written on this machine and sent when it is complete.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any

from diffusion.runtime.bucket_path import Bucket

TEMPORARY = ".tmp"
"""Suffix of temporary names. Only a killed process leaves one behind; it may be deleted."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder, which replaces `path` when the block ends.

    Makes the parent folders. Whatever the block raises, the temporary file or folder is deleted and `path` stays as it
    was. A folder can replace only an empty one. Raises OSError.
    """
    if isinstance(path, Bucket):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            path.upload(Path(folder) / path.name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
        raise


@contextmanager
def atomic_file(path: Path, *, fsync: bool = False) -> Iterator[BufferedRandom]:
    """A new binary file, which replaces `path` when the block ends; see `atomic_path`.

    fsync: wait until the content is on the disk before the file takes its place, so that it survives a power failure.
    """
    with atomic_path(path) as temporary, temporary.open("x+b") as file:
        yield file
        file.flush()
        if fsync:
            os.fsync(file.fileno())


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """The path of a file or folder on this machine, for writers that need one: `path` itself, or sent to a bucket.

    Makes the parent folders. Raises OSError.
    """
    if isinstance(path, Bucket):
        with atomic_path(path) as temporary:
            yield temporary
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path


def write_bytes(path: Path, content: bytes, *, fsync: bool = False) -> None:
    """Writes a file atomically. Raises OSError."""
    with atomic_file(path, fsync=fsync) as file:
        file.write(content)


def write_json(path: Path, content: Any, *, indent: int | None = 2, fsync: bool = False) -> None:
    """Writes a JSON file atomically. Raises OSError, and TypeError for content that JSON cannot hold."""
    write_bytes(path, (json.dumps(content, indent=indent) + "\n").encode(), fsync=fsync)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError, and ValueError for one that is not JSON or is nested too deeply."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes NumPy arrays by name to an uncompressed .npz file atomically. Raises OSError."""
    import numpy as np

    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
