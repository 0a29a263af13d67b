"""Copies of objects on this machine, for readers that need a file or read one again: a folder of bounded size.

The copies lie in the user's cache, in a folder for each folder of a bucket. One whose size or time differs from the
object's is fetched again. Before one is fetched those used longest ago make room for it.
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
from diffusion.runtime.format_numbers import quantity
from diffusion.runtime.paths import cache_folder

LIMIT = 20 * 2**30
"""Bytes of all copies, at most; half of the free disk, if that is less. A larger object or folder is held alone."""
DAY = 86_400.0
"""Seconds after which an unfinished copy is that of a process that died."""

_size: dict[Path, int] = {}
"""Bytes of all copies, as far as this process has counted."""
_counting = threading.Lock()


def local(path: Path, status: os.stat_result | None = None, together: bool = False) -> Path:
    """A file on this machine with the content of `path`: itself, or the copy of an object. Raises OSError.

    status: of the object, where it is known already. together: no copy from the same folder makes room for it.
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
    _make_room(place, status.st_size, together)
    temporary = copy.with_name(f"{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        path.fetch(temporary)
        os.utime(temporary, (time.time(), status.st_mtime))
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)
    return copy


def local_folder(folder: Path) -> Path:
    """A folder on this machine with the files that lie in `folder` itself, all at once. Raises OSError.

    Raises ValueError, before anything is fetched, where the disk has no room for them.
    """
    if isinstance(folder, Bucket):
        files = {name: status for name, status in folder.listing().items() if not name.count("/")}
        place = _place(folder)
        missing = sum(status.st_size for name, status in files.items() if not (place / name).exists())
        place.mkdir(parents=True, exist_ok=True)
        if missing > (free := shutil.disk_usage(place).free):
            needed, there = quantity(missing, "B"), quantity(free, "B")
            raise ValueError(
                f"{folder}: {needed} to be copied, and the disk of {place.parent} has {there} free; make room, or let "
                "XDG_CACHE_HOME name a larger one"
            )
        for name, status in files.items():
            local(folder / name, status, together=True)
        return place
    return folder


def _place(folder: Path) -> Path:
    return cache_folder("objects") / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _make_room(place: Path, size: int, together: bool) -> None:
    """Counts a copy that comes to `place`, and deletes those used longest ago where all of them are too large."""
    root = place.parent
    with _counting:
        limit = min(LIMIT, (shutil.disk_usage(root).free + _size.get(root, 0)) // 2)
        if root in _size and _size[root] + size <= limit:
            _size[root] += size
            return
        stored = []
        for path in root.glob("*/*"):
            with suppress(FileNotFoundError):
                used, each = path.stat().st_atime, path.stat().st_size
                if path.suffix != TEMPORARY or used < time.time() - DAY:
                    stored.append((used, each, path))
        total = size + sum(each for _, each, _ in stored)
        for _, each, path in sorted(stored):
            if total > limit and not (together and path.parent == place):
                path.unlink(missing_ok=True)
                total -= each
        _size[root] = total
