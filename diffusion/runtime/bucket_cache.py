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
"""Bytes of all copies, at most; half of the free disk, if that is less. A larger object is held alone."""
WHOLE = ".whole"
"""A file in a folder of copies that are needed together: they stay until a user deletes them, and do not count."""
DAY = 86_400.0
"""Seconds after which an unfinished copy is that of a process that died."""

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
    place = _place(path.parent)
    copy = place / path.name
    if _is_of(copy, status):
        os.utime(copy, (time.time(), status.st_mtime))
        return copy
    place.mkdir(parents=True, exist_ok=True)
    _make_room(place.parent, status.st_size)
    temporary = copy.with_name(f"{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        path.fetch(temporary)
        os.utime(temporary, (time.time(), status.st_mtime))
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)
    return copy


def local_folder(folder: Path) -> Path:
    """A folder on this machine with the files that lie in `folder` itself, which no other copy displaces.

    Raises OSError; ValueError, before anything is fetched, where the disk has no room for them.
    """
    if not isinstance(folder, Bucket):
        return folder
    files = {name: status for name, status in folder.listing().items() if not name.count("/")}
    place = _place(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / WHOLE).touch()
    missing = sum(status.st_size for name, status in files.items() if not _is_of(place / name, status))
    room = shutil.disk_usage(place).free + sum(size for _, size, _ in _displaceable(place.parent))
    if missing > room:
        raise ValueError(
            f"{folder}: {quantity(missing, 'B')} to be copied, and the disk of {place.parent} has room for "
            f"{quantity(room, 'B')}; make room, or let XDG_CACHE_HOME name a larger one"
        )
    for name, status in files.items():
        local(folder / name, status)
    return place


def _is_of(copy: Path, status: os.stat_result) -> bool:
    """Whether a copy exists and has the size and time of its object."""
    try:
        stored = copy.stat()
    except FileNotFoundError:
        return False
    return (stored.st_size, int(stored.st_mtime)) == (status.st_size, int(status.st_mtime))


def _place(folder: Path) -> Path:
    return cache_folder("objects") / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _displaceable(root: Path) -> list[tuple[float, int, Path]]:
    """(time of the last use, bytes, path) of the copies that may make room for others."""
    found = []
    for path in root.glob("*/*"):
        with suppress(FileNotFoundError):
            used, size = path.stat().st_atime, path.stat().st_size
            fetching = path.suffix == TEMPORARY and used > time.time() - DAY
            if not fetching and not (path.parent / WHOLE).exists():
                found.append((used, size, path))
    return found


def _make_room(root: Path, size: int) -> None:
    """Counts a new copy, and deletes those used longest ago where all of them are too large."""
    with _counting:
        limit = min(LIMIT, (shutil.disk_usage(root).free + _size.get(root, 0)) // 2)
        if root in _size and _size[root] + size <= limit:
            _size[root] += size
            return
        stored = _displaceable(root)
        total = size + sum(each for _, each, _ in stored)
        for _, each, path in sorted(stored):
            if total > limit:
                path.unlink(missing_ok=True)
                total -= each
        _size[root] = total
