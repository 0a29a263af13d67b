"""Folders and files in object storage (gs://, s3://, whatever fsspec opens) behind the interface of pathlib.Path.

    folder = bucket_path.at("gs://bucket/runs/digits")        # a Path, so all code that only reads and lists takes it
    folder.upload(local, last="manifest.json")           # what readers wait for is written last

An object appears whole or not at all, and listings are consistent: the services state both. Objects have no append, no
rename and no lock. Requests and their errors are those of bucket_requests.py. Imports nothing heavy.
"""

import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from diffusion.runtime.bucket_requests import SEPARATOR, ask, key

LOCAL = frozenset({"file", "local"})
THREADS = 8
KINDS = {"directory": stat.S_IFDIR}
TIMES = ("mtime", "LastModified", "updated", "created")
"""Names of the time of the last change in the answers of fsspec's file systems."""


def at(url: str) -> Path:
    """The path of a URL. Raises ValueError where its scheme is unknown, needs another package, or it has no bucket."""
    scheme, _, rest = url.partition(SEPARATOR)
    if scheme in LOCAL:
        return Path(rest)
    if rest.split("/")[0].count("@"):
        raise ValueError(f"{scheme}://: a URL must not hold credentials; the libraries read them from the environment")
    if not rest.strip("/"):
        raise ValueError(f"{url}: names no bucket; write {scheme}://BUCKET/FOLDER")
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs"}.get(scheme)
        raise ValueError(f"{url}: {f'pip install {package}' if package else str(error)}") from error
    except ValueError as error:
        raise ValueError(f"{url}: fsspec has no file system {scheme}://; gs:// and s3:// are buckets") from error
    return Bucket(url)


class Bucket(type(Path())):
    """A path in a bucket. Its parts are `gs:`, the bucket, and the names below it; folders need not be made.

    Methods without a description do what those of pathlib.Path do; files are written whole.
    """

    def __str__(self) -> str:
        first, *rest = self.parts or (".",)
        return f"{first}//{'/'.join(rest)}" if first.endswith(":") else "/".join((first, *rest))

    def absolute(self) -> "Bucket":
        return self

    def resolve(self, strict: bool = False) -> "Bucket":  # noqa: ARG002
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002
        """Size and time of a file; size 0 and time 0 of a folder."""
        return _status(self._ask("info"))

    def exists(self, **_: Any) -> bool:
        """Whether it is a file or a folder that has files."""
        return self._mode() != 0

    def is_file(self, **_: Any) -> bool:
        return stat.S_ISREG(self._mode())

    def is_dir(self, **_: Any) -> bool:
        """Whether files lie below it."""
        return stat.S_ISDIR(self._mode())

    def listing(self) -> dict[str, os.stat_result]:
        """{relative name: size and time} of every file below it, sorted; a request for each 1,000 files or so."""
        try:
            found = self._ask("find", detail=True)
        except FileNotFoundError:
            return {}
        start = len(key(str(self))) + 1
        files = {name[start:]: info for name, info in found.items() if len(name) > start and not name.endswith("/")}
        return {name: _status(files[name]) for name in sorted(files)}

    def iterdir(self) -> Iterator[Path]:
        """Its files and folders; none where it does not exist."""
        try:
            names = {name.rstrip("/").rpartition("/")[2] for name in self._ask("ls", detail=False)}
        except FileNotFoundError:
            return
        yield from (self / name for name in sorted(names - {""}))

    def glob(self, pattern: str, **_: Any) -> Iterator[Path]:
        """Its files and folders that match a pattern, part by part."""
        parts = pattern.split("/")
        for name in self._names():
            own = name.split("/")
            if len(own) == len(parts) and all(map(fnmatchcase, own, parts)):
                yield self / name

    def rglob(self, pattern: str, **_: Any) -> Iterator[Path]:
        """Files and folders at any depth whose last parts match a pattern."""
        yield from (self / name for name in self._names() if PurePosixPath(name).match(pattern))

    def open(self, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """The content, for reading, as a temporary file on this machine. atomic_files.py writes."""
        if mode.strip("rbt"):
            raise OSError(errno.EROFS, f"objects cannot be opened with mode {mode!r}", str(self))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            self.fetch(copy)
            file = copy.open("rb")  # stays readable without its name
        return file if mode.count("b") else io.TextIOWrapper(file, encoding="utf-8")

    def read_bytes(self) -> bytes:
        return self._ask("cat_file")

    def read_text(self, encoding: str | None = None, errors: str | None = None, **_: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        self._ask("pipe_file", bytes(data))
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, *_: Any, **__: Any) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8"))

    def create(self, content: bytes) -> bool:
        """Writes a file that must not exist; whether it was this call that did.

        The service decides (a precondition on the object); where a service ignores that, the last writer wins.
        """
        with suppress(FileExistsError):  # it may be of an attempt of this call whose answer was lost
            self._ask("pipe_file", content, mode="create")
        return self.read_bytes() == content

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Does nothing: a folder exists where files lie below it."""

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._ask("rm_file")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self, first: str = "") -> None:
        """Deletes every file below it; that of the relative name `first` before the others."""
        names = self.listing()
        if first in names:
            (self / first).unlink(missing_ok=True)
        _all(lambda name: (self / name).unlink(missing_ok=True), names)

    def rename(self, target: Path) -> Path:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Copies every file below it, then deletes them."""
        names = self.listing()
        _all(lambda name: (self / name)._ask("copy", str(target / name)), names)
        _all(lambda name: (self / name).unlink(missing_ok=True), names)
        return target

    def upload(self, source: Path, last: str = "") -> None:
        """Writes a file, or every file below a folder, from this machine; that of the relative name `last` last."""
        if source.is_file():
            self._ask("put_file", str(source), backwards=True)
            return
        names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
        _all(lambda name: (self / name).upload(source / name), names - {last})
        if last in names:
            (self / last).upload(source / last)

    def fetch(self, target: Path) -> None:
        """Writes its content to a file of this machine."""
        self._ask("get_file", str(target))

    def download(self, target: Path) -> None:
        """Writes every file below it into a folder of this machine."""
        names = self.listing()
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        _all(lambda name: (self / name).fetch(target / name), names)

    def _mode(self) -> int:
        try:
            return self.stat().st_mode
        except FileNotFoundError:
            return 0

    def _names(self) -> list[str]:
        """Relative names of all files and folders below it, sorted."""
        files = [PurePosixPath(name) for name in self.listing()]
        return sorted({str(path) for file in files for path in (file, *file.parents)} - {"."})

    def _ask(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """What a method of the file system returns for this path. Raises OSError; see bucket_requests.py."""
        return ask(str(self), operation, *args, **kwargs)


def _all(call: Callable[[str], Any], names: Iterable[str]) -> None:
    """Calls for every name, in threads; the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(call, names))


def _status(info: dict[str, Any]) -> os.stat_result:
    kind = KINDS.get(info["type"], stat.S_IFREG)
    changed = next((info[name] for name in TIMES if info.get(name)), 0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    seconds = int(changed.timestamp() if isinstance(changed, datetime) else changed)
    return os.stat_result((kind, 0, 0, 1, 0, 0, int(info["size"] or 0), seconds, seconds, seconds))
