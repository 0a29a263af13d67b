"""One file over HTTP by `pooch`: checked against its published size and SHA-256, retried, complete or absent."""

from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

RETRIES = 2
CHUNK = 1 << 20


class Remote(NamedTuple):
    """A published file."""

    url: str
    size: int
    """Bytes."""
    sha256: str


class DownloadError(ValueError):
    """The file could not be downloaded; the message gives the reason in one line."""


class Progress(tqdm):
    """Progress on standard error if that is a terminal. Raises DownloadError for more bytes than were published."""

    def __init__(self, remote: Remote) -> None:
        super().__init__(total=remote.size, unit="B", unit_scale=True, disable=None)
        self.remote, self.received = remote, 0

    def __bool__(self) -> bool:
        """True, also where the server gives no length: pooch ignores a progress bar that is false."""
        return True

    def update(self, n: Any = 1) -> Any:
        self.received += n
        if self.received >= self.remote.size + 2 * CHUNK:  # the last of the chunks may be shorter than it is counted
            raise DownloadError(f"it has more than {self.remote.size} bytes: it is not the official file")
        return super().update(n)

    def reset(self, total: Any = None) -> None:
        self.received = 0
        super().reset(total)


def fetch(remote: Remote, path: Path, *, retries: int = RETRIES, timeout: float = 8.0) -> Path:
    """Downloads to `path`, unless the file is there already, and returns it; progress goes to standard error.

    retries: further attempts after one that failed. timeout: seconds to wait for a connection and for each block, so a
    machine without a network gets its answer within half a minute.

    The bytes go to a temporary file beside `path`, which is renamed once its SHA-256 is right: several processes may
    download the same file at once, and no partial file remains. Raises DownloadError.
    """
    import pooch

    downloader: Any = pooch.HTTPDownloader(progressbar=Progress(remote), chunk_size=CHUNK, timeout=timeout)  # pyright: ignore
    registry, urls = {path.name: f"sha256:{remote.sha256}"}, {path.name: remote.url}
    try:
        files = pooch.create(path.parent, base_url="", registry=registry, urls=urls, retry_if_failed=retries)
        return Path(files.fetch(path.name, downloader=downloader))
    except OSError as error:
        if error.errno is not None:  # errors of the network have none
            raise DownloadError(f"cannot write in {path.parent} ({error.strerror})") from error
        raise _refusal(remote, error) from error
    except ValueError as error:
        raise _refusal(remote, error) from error


def _refusal(remote: Remote, error: Exception) -> DownloadError:
    return DownloadError(f"{remote.url} could not be downloaded: {' '.join(str(error).split())[:400]}")
