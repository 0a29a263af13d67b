"""One file over HTTP by `pooch`: checked against its published SHA-256, retried, complete or absent."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

RETRIES = 2
"""Further attempts after one that failed."""
TIMEOUT = 8.0
"""Seconds to wait for a connection and for each block: without a network the answer comes within half a minute."""
CHUNK = 1 << 20


class Remote(NamedTuple):
    """A published file."""

    url: str
    sha256: str


class DownloadError(ValueError):
    """The file could not be downloaded; the message gives the reason in one line."""


def fetch(remote: Remote, path: Path) -> Path:
    """Downloads to `path`, unless the right file is there already, and returns it.

    The bytes go to a temporary file beside `path`, which is renamed once its SHA-256 is right: several processes may
    download the same file at once, and no partial file remains. Raises DownloadError.
    """
    import pooch

    downloader: Any = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=CHUNK, timeout=TIMEOUT)
    registry, urls = {path.name: f"sha256:{remote.sha256}"}, {path.name: remote.url}
    files = pooch.create(path.parent, base_url="", registry=registry, urls=urls, retry_if_failed=RETRIES)
    try:
        return Path(files.fetch(path.name, downloader=downloader))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise DownloadError(f"{remote.url} could not be downloaded: {reason}") from error
