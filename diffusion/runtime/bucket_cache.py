"""Copies of objects on this machine, for readers that need a file or read one again: a folder of bounded size.

The copies lie in the user's cache, in a folder for each folder of a bucket. One whose size or time differs from the
object's is fetched again; those used longest ago are deleted first.
"""

import hashlib
import os
import shutil
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from diffusion.runtime.atomic_files import TEMPORARY
from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.paths import cache_folder

LIMIT = 20 * 2**30
"""Bytes of all copies, at most; half of the free disk, if that is less."""

_size: dict[Path, int] = {}
"""Bytes of all copies, as far as this process has counted."""
_counting = threading.Lock()


def local(path: Path, status: os.stat_result | None = None) -> Path:
    """A file on this machine with the content of `path`: itself, or the copy of an object. Raises OSError.

    status: of the object, where it is known already.
    """
    if not isinstance(path, Bucket):
        return path
    status = status or path.stat()
    wanted = status.st_size, int(status.st_mtime)
    place = _place(path.parent)
    copy = place / path.name
    with suppress(FileNotFoundError):
        stored = copy.stat()
        if (stored.st_size, int(stored.st_mtime)) == wanted:
            os.utime(copy, (time.time(), status.st_mtime))
            return copy
    place.mkdir(parents=True, exist_ok=True)
    temporary = copy.with_name(f"{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        path.fetch(temporary)
        os.utime(temporary, (time.time(), status.st_mtime))
        _make_room(place.parent, status.st_size)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)
    return copy


def local_folder(folder: Path) -> Path:
    """A folder on this machine with the files that lie in `folder` itself. Raises OSError."""
    if isinstance(folder, Bucket):
        for name, status in folder.listing().items():
            if not name.count("/"):
                local(folder / name, status)
        return _place(folder)
    return folder


def _place(folder: Path) -> Path:
    return cache_folder("objects") / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _make_room(root: Path, size: int) -> None:
    """Counts a new copy, and deletes those used longest ago where all of them are too large."""
    with _counting:
        limit = min(LIMIT, (shutil.disk_usage(root).free + _size.get(root, 0)) // 2)
        if root in _size and _size[root] + size <= limit:
            _size[root] += size
            return
        total, stored = size, []
        for path in root.glob("*/*"):
            with suppress(FileNotFoundError):
                stored.append((path.stat().st_atime, path.stat().st_size, path))
        total += sum(one[1] for one in stored)
        for _, each, path in sorted(stored):
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total -= each
        _size[root] = total
