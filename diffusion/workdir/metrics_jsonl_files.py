"""The lines of a run's scalars: metrics.jsonl, or in a bucket, where nothing can be appended, parts that are joined.

metrics.jsonl          a JSON object a line
metrics/000000.jsonl   the same in a bucket, in the order of the names; the newest part is written again as it grows
"""

import json
import math
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion.runtime.atomic_files import write_bytes
from diffusion.runtime.bucket_path import Bucket

NAME = "metrics.jsonl"
PARTS = "metrics"
LARGEST = 2**18
"""Bytes after which another part is started."""


def exist(workdir: Path) -> bool:
    """Whether a run has written lines."""
    return bool(_files(workdir))


def runs(folder: Path) -> list[Path]:
    """The folders of runs with lines: `folder` or those in it, sorted."""
    if isinstance(folder, Bucket):
        return sorted({path.parent.parent for depth in ("", "*/") for path in folder.glob(f"{depth}{PARTS}/*.jsonl")})
    return sorted(path.parent for depth in ("", "*/") for path in folder.glob(f"{depth}{NAME}"))


def read(workdir: Path) -> list[bytes]:
    """All lines of a run; none where there is no file. Raises OSError."""
    return [line for path in _files(workdir) for line in path.read_bytes().splitlines()]


def scalars(workdir: Path) -> list[dict[str, Any]]:
    """All lines of a run; damaged ones, as a crash may leave the last, are left out with a warning. Raises OSError."""
    lines = read(workdir)
    intact = [values for values in map(parsed, lines) if values]
    if len(intact) < len(lines):
        warnings.warn(f"{workdir}: damaged lines of its metrics are left out: {len(lines) - len(intact)}", stacklevel=2)
    return intact


def parsed(line: bytes) -> dict[str, Any]:
    """The scalars of a line and their step, as `step`; nothing where the line is damaged."""
    try:
        values = json.loads(line)
        return values if math.isfinite(values["step"]) else {}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}


def drop(workdir: Path, unwanted: Callable[[bytes], bool]) -> None:
    """Deletes lines. Raises OSError."""
    for path in _files(workdir):
        lines = path.read_bytes().splitlines()
        remaining = b"".join(line + b"\n" for line in lines if not unwanted(line))
        if not isinstance(workdir, Bucket) or len(remaining) < sum(len(line) + 1 for line in lines):
            write_bytes(path, remaining)


def appended(workdir: Path) -> "Lines":
    """Opens the lines of a run for more of them."""
    return Parts(workdir) if isinstance(workdir, Bucket) else Lines(workdir)


class Lines:
    """metrics.jsonl, open for appending."""

    def __init__(self, workdir: Path):
        self._file = (workdir / NAME).open("a")

    def add(self, line: str) -> None:
        """Appends a line. Raises OSError; it is written with the next one then."""
        self._file.write(line + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Returns once all lines are where readers find them. Raises OSError."""

    def close(self) -> None:
        """Closes the file. Raises OSError."""
        self._file.close()


class Parts(Lines):
    """The parts of a run in a bucket. `sync` writes them, in any thread; a process that is killed loses later lines."""

    def __init__(self, workdir: Path):
        self._folder = workdir / PARTS
        self._number = max((int(path.stem) + 1 for path in _files(workdir)), default=0)
        self._part, self._sent = b"", 0
        self._changing = threading.Lock()

    def add(self, line: str) -> None:
        """Appends a line to those that `sync` writes."""
        with self._changing:
            self._part += line.encode() + b"\n"

    def sync(self) -> None:
        """Writes the newest part, if it has grown. Raises OSError; nothing is lost then."""
        with self._changing:
            if len(self._part) > self._sent:
                write_bytes(self._folder / f"{self._number:06d}.jsonl", self._part)
                self._sent = len(self._part)
                if self._sent > LARGEST:
                    self._number, self._part, self._sent = self._number + 1, b"", 0

    def close(self) -> None:
        """Does nothing: `sync` has written the lines."""


def _files(workdir: Path) -> list[Path]:
    """The files of a run, in order."""
    if isinstance(workdir, Bucket):
        return sorted(path for path in (workdir / PARTS).glob("*.jsonl") if path.stem.isdigit())
    path = workdir / NAME
    return [path] if path.exists() else []
