"""The image files below a folder: which there are, their headers, and a digest of each; read once, in threads."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

import numpy as np

from diffusion.data.dataset_interface import in_threads
from diffusion.data.image_decoder import NO_FILE, REMARKS, Header, header
from diffusion.runtime.bucket_cache import local
from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.paths import expanded
from diffusion.runtime.short_error_text import reason

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""In any case."""

WHOLE = 2**30
"""Folders of at most so many bytes are identified by the content of their files, larger ones by sizes and times."""


class Listing(NamedTuple):
    """The image files below a folder."""

    files: list[str]
    """Paths relative to the folder, with forward slashes, sorted: one order on every machine."""
    notes: tuple[str, ...]
    """What was left out, a line each."""


class Files(NamedTuple):
    """What is known of image files without decoding them."""

    headers: list[Header]
    digests: list[str]
    """Of each file's bytes, or its size and time."""
    of: str
    """What the digests are of."""
    near: Callable[[str], str]
    """The path of one of the files -> that of a file on this machine: itself, or the copy of an object."""


def listing(root: Path) -> Listing:
    """The images below `root`, by their endings; hidden files and folders are passed over.

    Links to folders are followed, each folder once: one that leads to a folder which is read anyway is left out; in a
    bucket there are none. Raises ValueError for a folder that cannot be read.
    """
    if isinstance(root, Bucket):
        return _listing_of_bucket(root)
    found, skipped, passed, empty = [], Counter(), [], []
    seen = {os.path.realpath(root)}
    waiting = [str(root)]
    while waiting:  # what lies in the folder itself comes before what links lead to
        links = []
        for place, folders, files in os.walk(waiting.pop(0), onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = [os.path.join(place, name) for name in folders]
            links += [path for path in paths if os.path.islink(path)]
            seen |= {os.path.realpath(path) for path in paths if not os.path.islink(path)}
            before = len(found)
            for name in files:
                ending = os.path.splitext(name)[1].lower()
                if ending in ENDINGS and not name.startswith("."):
                    found.append(Path(place, name).relative_to(root).as_posix())
                elif not name.startswith("."):
                    skipped[ending or "no ending"] += 1
            if not folders and len(found) == before and place != str(root):
                empty.append(place)
        for path in links:
            target = os.path.realpath(path)
            if target in seen or os.path.realpath(root).startswith(target + os.sep):
                passed.append(path)
            else:
                seen.add(target)
                waiting.append(path)
    notes = _left_out(skipped)
    if passed:
        notes.append(f"left out {_number(len(passed), 'link')} to a folder that is read already, such as {passed[0]}")
    if empty:
        notes.append(f"{_number(len(empty), 'folder')} without an image, such as {min(empty)}")
    return Listing(sorted(found), tuple(notes))


def look(root: Path, files: Sequence[str]) -> Files:
    """Header and digest of each file. Raises ValueError that names the first file that is no image."""
    paths, near = [str(root / file) for file in files], str

    def stats(index: np.ndarray) -> list[os.stat_result]:
        return [_stat(paths[i]) for i in index]

    if isinstance(root, Bucket):
        known = root.listing()
        stat, near = [known[file] for file in files], partial(_copy, root, known)
    else:
        stat = [one for _, some in in_threads(stats, len(files), f"listing {root}") for one in some]
    whole = sum(one.st_size for one in stat) <= WHOLE

    def facts(index: np.ndarray) -> list[tuple[Header, str]]:
        return [
            _content(near(paths[i]), paths[i]) if whole else _times(near(paths[i]), stat[i], paths[i]) for i in index
        ]

    pairs = [pair for _, some in in_threads(facts, len(files), f"checking {root}") for pair in some]
    of = "content and file names" if whole else "file names, sizes and times"
    return Files([head for head, _ in pairs], [digest for _, digest in pairs], of, near)


def _copy(root: Bucket, known: Mapping[str, os.stat_result], path: str) -> str:
    """The path of the copy of an object below `root`."""
    place = expanded(path)
    try:
        return str(local(place, known.get(place.relative_to(root).as_posix())))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({reason(error)}); try again later") from error


def remarks(headers: Sequence[Header], background: str) -> list[str]:
    """What the decoder changes, a line for each kind with the number of images."""
    counts = Counter(remark for seen in headers for remark in seen.remarks)
    return [
        f"{_number(counts[key], 'image')} {text.format(background=background)}"
        for key, text in REMARKS.items()
        if counts[key]
    ]


def _stat(path: str) -> os.stat_result:
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); repair or remove it") from error
    if not S_ISREG(found.st_mode):
        raise ValueError(f"{path}: {NO_FILE}")
    return found


def _content(path: str, name: str) -> tuple[Header, str]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: cannot be read ({error.strerror}); repair or remove it") from error
    return header(BytesIO(content), name), hashlib.sha256(content).hexdigest()


def _times(path: str, stat: os.stat_result, name: str) -> tuple[Header, str]:
    return header(path, name), f"{stat.st_size} {int(stat.st_mtime)}"


def _listing_of_bucket(root: Bucket) -> Listing:
    """The images in a bucket below `root`."""
    names = [name for name in root.listing() if not any(part.startswith(".") for part in name.split("/"))]
    ending = {name: os.path.splitext(name)[1].lower() for name in names}
    found = [name for name in names if ending[name] in ENDINGS]
    return Listing(
        found, tuple(_left_out(Counter(ending[n] or "no ending" for n in names if ending[n] not in ENDINGS)))
    )


def _left_out(skipped: Counter) -> list[str]:
    """The note on files of other endings."""
    kinds = ", ".join(f"{count} {ending}" for ending, count in skipped.most_common(5))
    return [f"left out {_number(sum(skipped.values()), 'file')} by ending: {kinds}"] if skipped else []


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error


def _number(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"
