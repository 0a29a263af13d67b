"""Paths that users give, the endings of files that they name, and the user's cache. Imports nothing heavy."""

import functools
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from diffusion.runtime import bucket_path
from diffusion.runtime.bucket_requests import SEPARATOR


def expanded(text: str | os.PathLike) -> Path:
    """A path that a user gave, with ~ as the home folder; of a URL such as gs://bucket/runs, one in a bucket.

    Raises ValueError where it is empty, a URL cannot be opened, there is no such home folder, or libraries in C++,
    which take names as UTF-8, would write to another place than Python.
    """
    if not str(text):
        raise ValueError("an empty path: name a file or folder, or leave the flag out")
    if SEPARATOR in str(text):
        return bucket_path.at(str(text))
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: there is no such home folder; set HOME, or write the path in full") from error
    name = os.path.abspath(path)
    if os.fsdecode(name.encode(errors="replace")) != name:
        raise ValueError(
            f"{name}: the encoding of the locale, {sys.getfilesystemencoding()}, cannot write this name as UTF-8; set "
            "PYTHONUTF8=1, or give an ASCII name"
        )
    return path


def absolute_text(text: str | os.PathLike) -> str:
    """A path that a user gave, as text that holds from any working directory. Raises ValueError like `expanded`."""
    path = expanded(text)
    return str(path) if isinstance(path, bucket_path.Bucket) else os.path.abspath(path)


def writable(folder: Path) -> bool:
    """Whether this user may write in a folder. Of one in a bucket it is assumed."""
    return isinstance(folder, bucket_path.Bucket) or os.access(folder, os.W_OK)


def check_file(flag: str, path: Path | None) -> None:
    """Raises ValueError where the file that a flag names, if any, is a folder or cannot be written by this user."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"--{flag}={path} is a folder: name a file in it")
    check_place(flag, path)


def check_place(flag: str, path: Path) -> None:
    """Raises ValueError where this user cannot write the file or folder that a flag names."""
    if isinstance(path, bucket_path.Bucket):
        return
    place = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not writable(place) or (place != path and not place.is_dir()):
        raise ValueError(f"--{flag}={path}: {place} cannot be written to; give another --{flag}")


def cache_folder(name: str) -> Path:
    """The folder diffusion/<name> in the user's cache: in $XDG_CACHE_HOME if that is an absolute path, else ~/.cache.

    Without a home folder it lasts as long as the process.
    """
    for root in map(os.path.expanduser, (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache")):
        if os.path.isabs(root):
            return Path(root, "diffusion", name)
    return Path(_temporary_folder().name, name)


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="diffusion-")


def check_ending(path: Path, kind: str, endings: Mapping[str, str]) -> None:
    """Raises ValueError where a path does not end as files of its kind do, or is a folder or file in their place.

    `endings`: kind -> the ending of its files, in any case; "" stands for a folder, which has none of the others.
    """
    own, ending = endings[kind], path.suffix.lower()
    if own and (ending != own or path.is_dir()):
        raise ValueError(f"--out={path}: {kind} is written to a file that ends in {own}; or give another --format")
    if not own and (path.is_file() or ending in filter(None, endings.values())):
        raise ValueError(f"--out={path}: {kind} is written to a folder; or give another --format")
