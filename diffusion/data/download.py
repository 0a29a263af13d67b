"""One file over HTTP, checked against its published size and SHA-256, within limits of time that always hold."""

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from diffusion.runtime.files import atomic_file

BLOCK = 1 << 16
TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class Remote(NamedTuple):
    """A file that somebody published."""

    url: str
    size: int
    """Bytes."""
    sha256: str


class DownloadError(ValueError):
    """The file did not arrive; the message says why in one line."""


def fetch(
    remote: Remote,
    path: Path,
    *,
    attempts: int = 5,
    pause: float = 1.0,
    patience: float = 24.0,
    timeout: float = 3600.0,
) -> Path:
    """Download to `path` and return it; progress goes to standard error.

    attempts: connections tried, with pauses of `pause`, 2 pause, 4 pause, ... seconds between them; a later one goes
    on where the earlier one broke off, if the server can. patience: seconds without a byte, over all attempts, after
    which it is given up, so that a machine without a network gets its answer soon. timeout: seconds for the whole.

    `path` appears whole and checked or not at all: the bytes go to a file of a name of its own beside it, which is
    renamed at the end, so processes that download the same file at once do not meet. Raises DownloadError.
    """
    print(f"downloading {remote.url} ({remote.size / 2**20:.0f} MiB) to {path}", file=sys.stderr)
    with _writing(path.parent), atomic_file(path) as file:
        _receive(remote, file, attempts, pause, patience, timeout)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != remote.sha256:
            raise DownloadError(f"{remote.url} has SHA-256 {digest}, not {remote.sha256}: it is not the official file")
    return path


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Errors of the local disk, which are no reason to try again, become DownloadErrors that name the folder."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"cannot write in {folder} ({error.strerror or error})") from error


def _receive(remote: Remote, file: IO[bytes], attempts: int, pause: float, patience: float, timeout: float) -> None:
    """All bytes of `remote` into `file`, over several connections if need be."""
    from tqdm import tqdm

    end = time.monotonic() + timeout
    quiet_end = time.monotonic() + patience
    reason = "no time left"
    with tqdm(total=remote.size, unit="B", unit_scale=True, disable=None) as bar:
        for attempt in range(attempts):
            left = min(end, quiet_end) - time.monotonic()
            if attempt:
                time.sleep(max(0.0, min(left, pause * 2 ** (attempt - 1))))
            try:
                # A third of the patience at a time: a connection that went silent is replaced before it runs out.
                for _ in _blocks(remote, file, min(patience / 3, max(0.01, end - time.monotonic()))):
                    bar.update(file.tell() - bar.n)
                    quiet_end = time.monotonic() + patience
                    if time.monotonic() > end:
                        raise TimeoutError(f"not complete after {timeout:.0f} s")
                return
            except HTTPError as error:
                reason = f"the server answers {error.code} {error.reason}"
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in TRY_AGAIN:
                    break
            except (OSError, HTTPException) as error:
                reason = str(getattr(error, "reason", "") or error or type(error).__name__)
            if time.monotonic() >= min(end, quiet_end):
                break
    raise DownloadError(f"{remote.url} did not arrive: {reason} ({file.tell()} of {remote.size} bytes)")


def _blocks(remote: Remote, file: IO[bytes], limit: float) -> Iterator[None]:
    """One connection: writes what arrives, yields after every block. limit: seconds to wait for answer or block."""
    have = file.tell()
    headers = {"User-Agent": "diffusion"} | ({"Range": f"bytes={have}-"} if have else {})
    request = Request(remote.url, headers=headers)
    response = _within(limit, lambda: build_opener().open(request, timeout=limit))
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            file.seek(have := 0)
            file.truncate()
        if response.length is not None and have + response.length != remote.size:
            raise DownloadError(
                f"{remote.url} has {have + response.length} bytes, not {remote.size}: it is not the official file"
            )
        while block := response.read1(BLOCK):
            with _writing(Path(file.name).parent):
                file.write(block)
            if file.tell() > remote.size:
                raise DownloadError(f"{remote.url} has more than {remote.size} bytes: it is not the official file")
            yield
    if file.tell() < remote.size:
        raise ConnectionError("the connection was closed early")


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """call(), or TimeoutError after that many seconds. A socket's own limit covers no name look-up, no slow headers."""
    future: Future = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
