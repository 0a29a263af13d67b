"""Paths that users give, the endings of files that they name, and the user's cache. Imports nothing heavy."""

import os
from collections.abc import Mapping
from pathlib import Path

from diffusion.runtime import bucket
from diffusion.runtime.bucket_requests import SEPARATOR


def expanded(text: str | os.PathLike) -> Path:
    """A path that a user gave, with ~ as the home folder; of a URL such as gs://bucket/runs, one in a bucket.

    Raises ValueError where it is empty, a URL cannot be opened, or there is no such home folder.
    """
    if not str(text):
        raise ValueError("an empty path: name a file or folder, or leave the flag out")
    if SEPARATOR in str(text):
        return bucket.at(str(text))
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: there is no such home folder; set HOME, or write the path in full") from error


def absolute_text(text: str | os.PathLike) -> str:
    """A path that a user gave, as text that holds from any working directory. Raises ValueError like `expanded`."""
    path = expanded(text)
    return str(path) if isinstance(path, bucket.Bucket) else os.path.abspath(path)


def cache_folder(name: str) -> Path:
    """The folder diffusion/<name> in the user's cache: in $XDG_CACHE_HOME if that is an absolute path, else ~/.cache.

    Raises ValueError without a home folder.
    """
    root = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", ""))
    return (Path(root) if os.path.isabs(root) else expanded("~/.cache")) / "diffusion" / name


def check_ending(path: Path, kind: str, endings: Mapping[str, str]) -> None:
    """Raises ValueError where a path does not end as files of its kind do, or is a folder or file in their place.

    `endings`: kind -> the ending of its files, in any case; "" stands for a folder, which has none of the others.
    """
    own, ending = endings[kind], path.suffix.lower()
    if own and (ending != own or path.is_dir()):
        raise ValueError(f"--out={path}: {kind} is written to a file that ends in {own}; or give another --format")
    if not own and (path.is_file() or ending in filter(None, endings.values())):
        raise ValueError(f"--out={path}: {kind} is written to a folder; or give another --format")
