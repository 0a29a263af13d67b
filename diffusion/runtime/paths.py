"""Paths that users give, the endings of files that they name, and the user's cache. Imports nothing heavy."""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from diffusion.runtime import bucket
from diffusion.runtime.bucket_requests import SEPARATOR


def expanded(text: str | os.PathLike) -> Path:
    """A path that a user gave, with ~ as the home folder; of a URL such as gs://bucket/runs, one in a bucket.

    Raises ValueError where it is empty, a URL cannot be opened, ~ has no meaning, or libraries in C++ would write to
    another path than Python: they take names as UTF-8, whatever the locale's encoding is.
    """
    if not str(text):
        raise ValueError("an empty path: name a file or folder, or leave the flag out")
    if SEPARATOR in str(text):
        return bucket.at(str(text))
    first, _, rest = str(text).partition("/")
    path = Path(text)
    if first.startswith("~"):
        place = str(home() or first) if first == "~" else os.path.expanduser(first)
        if place == first:
            raise ValueError(
                f"{text}: there is no home folder that {first} could stand for; write ./{first} for a name"
            )
        path = Path(place) / rest
    name = os.path.abspath(path)
    try:
        if name.encode() == os.fsencode(name):
            return path
    except UnicodeEncodeError:
        pass
    raise ValueError(
        f"{name}: this name cannot be written as UTF-8 in the locale's encoding, {sys.getfilesystemencoding()}; set "
        "PYTHONUTF8=1 or a UTF-8 locale, or give an ASCII name"
    )


def absolute_text(text: str | os.PathLike) -> str:
    """A path that a user gave, as text that holds from any working directory. Raises ValueError like `expanded`."""
    path = expanded(text)
    return str(path) if isinstance(path, bucket.Bucket) else os.path.abspath(path)


def home() -> Path | None:
    """The home folder: $HOME if it is not empty, else that of the passwd entry; None where there is neither."""
    if os.environ.get("HOME"):
        return Path(os.environ["HOME"])
    try:
        import pwd

        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):
        return None


def cache_folder(name: str) -> Path:
    """The folder diffusion/<name> in the user's cache: in $XDG_CACHE_HOME if that is an absolute path, else ~/.cache.

    Without a home folder it is in a folder of the user's own in the system's temporary folder.
    """
    root, own = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "")), home()
    if not os.path.isabs(root):
        root = own / ".cache" if own else Path(tempfile.gettempdir()) / f"cache-of-{os.getuid()}"
    return Path(root) / "diffusion" / name


def check_ending(path: Path, kind: str, endings: Mapping[str, str]) -> None:
    """Raises ValueError where a path does not end as files of its kind do, or names what cannot be replaced.

    `endings`: kind -> the ending of its files, in any case; "" stands for a folder, which has none of the others.
    """
    own, other = endings[kind], {ending: name for name, ending in endings.items() if ending}
    ending = path.suffix.lower()
    if own and path.is_dir():
        raise ValueError(f"--out={path} is a folder; name a file that ends in {own}")
    if ending != own and (own or ending in other):
        remedy = f"; or give --format={other[ending]}" if ending in other else ""
        raise ValueError(
            f"--out={path}: {kind} is written to a {f'file that ends in {own}' if own else 'folder'}{remedy}"
        )
    if not own and path.exists() and not path.is_dir():
        raise ValueError(f"--out={path} is a file; name a folder")
