"""Requests to object storage through fsspec: repeated while a service is busy, and with errors of the system.

A request that fails for a while (busy server, no answer) is repeated for PATIENCE seconds; every other failure is an
OSError in a few words. Credentials are left to the libraries. Imports nothing heavy.
"""

import errno
import time
import warnings
from functools import cache
from typing import Any

PATIENCE = 300.0
"""Seconds for which requests are repeated, since the first that failed of those after the last that did not."""
LONG_AGO = 60.0
"""Seconds without a request after which earlier failures no longer count."""
BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of HTTP that pass."""
REFUSED = frozenset({401, 403})
TRANSIENT = frozenset({errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EBUSY), errno.ETIMEDOUT})
"""s3fs translates busy servers to these."""
LIBRARIES = frozenset({"aiohttp", "requests", "urllib3", "HTTPClientError", "ChecksumError", "TransportError"})
"""Packages and classes of errors of a connection."""
UNKNOWN_USER = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError"})
SEPARATOR = "://"
OPTIONS = {"gs": {"requests_timeout": 60}, "gcs": {"requests_timeout": 60}}
"""Arguments of fsspec's file systems by scheme, beside those of all."""

_failing: dict[str, tuple[float, float]] = {}
"""When the first and the newest of the requests failed, by bucket."""


def ask(url: str, operation: str, *args: Any, backwards: bool = False, **kwargs: Any) -> Any:
    """What a method of the file system returns for a URL, its first argument (`backwards`: its last).

    Raises OSError: FileNotFoundError for an object or a bucket that does not exist, PermissionError without permission
    or credentials.
    """
    place, pause = "/".join(url.split("/")[:3]), 1.0
    call = getattr(_system(url.partition(SEPARATOR)[0]), operation)
    paths = (*args, key(url)) if backwards else (key(url), *args)
    while True:
        began = time.monotonic()
        try:
            result = call(*paths, **kwargs)
            _failing.pop(place, None)
            return result
        except Exception as error:
            if not transient(error):
                raise _problem(error, url) from error
            now = time.monotonic()
            first, newest = _failing.get(place, (began, began))
            first = began if began > newest + LONG_AGO else first
            _failing[place] = first, now
            if now > first + PATIENCE:
                raise _problem(error, url) from error
            line = f"{place} does not answer ({_text(error)}); requests are repeated for up to {PATIENCE:.0f} s"
            warnings.warn(line, stacklevel=2)
        time.sleep(pause)
        pause = min(2 * pause, 10.0)


def key(url: str) -> str:
    """A URL as its file system names it."""
    return _system(url.partition(SEPARATOR)[0])._strip_protocol(url).rstrip("/")


def transient(error: BaseException) -> bool:
    """Whether a request that failed with an error may succeed later."""
    if _named(error, UNKNOWN_USER):
        return False
    if isinstance(error, TimeoutError | ConnectionError) or _code(error) in BUSY or _named(error, LIBRARIES):
        return _code(error) in BUSY or _code(error) == 0
    return isinstance(error, OSError) and error.errno in TRANSIENT


@cache
def _system(scheme: str) -> Any:
    """fsspec's file system of a scheme, without a cache of listings; one for all threads."""
    import logging

    import fsspec

    for name in ("gcsfs", "s3fs", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they print tracebacks of what is repeated here
    return fsspec.filesystem(scheme, use_listings_cache=False, **OPTIONS.get(scheme, {}))


def _named(error: BaseException, names: frozenset[str]) -> bool:
    kinds = type(error).__mro__
    return any(kind.__name__ in names or kind.__module__.partition(".")[0] in names for kind in kinds)


def _code(error: BaseException) -> int:
    """The status of HTTP in an error; 0 where there is none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(getattr(error, "code", None) or getattr(error, "status", None))
    return int(code) if code.isdigit() else 0


def _text(error: BaseException) -> str:
    code = _code(error)
    return f"status {code}" if code else " ".join(str(error).split())[:120] or type(error).__name__


def _problem(error: Exception, path: str) -> OSError:
    """An error of a library as one of the system, in a few words and without what may be secret."""
    if isinstance(error, FileExistsError):
        return FileExistsError(f"it exists: {path}")
    if isinstance(error, FileNotFoundError) or _code(error) == 404:
        return FileNotFoundError(f"no such object or bucket: {path}")
    refused = _code(error) in REFUSED or (isinstance(error, OSError) and str(error).startswith("Forbidden"))
    if isinstance(error, PermissionError) or refused or _named(error, UNKNOWN_USER):
        return PermissionError(f"no permission for {path}, or no credentials")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return error
    return OSError(f"{path}: {type(error).__name__}: {_text(error)}")
