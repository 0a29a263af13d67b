"""A lock file that one process at a time holds. Imports nothing heavy."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion.runtime import bucket_lock
from diffusion.runtime.bucket_path import Bucket


@contextmanager
def exclusive(path: Path, what: str, advice: str, *, wait: bool = False) -> Iterator[Callable[[], None]]:
    """Holds a lock file for this process alone, until the block ends or the process dies.

    Gives a function that raises ValueError where the lock is lost, which happens in buckets alone (bucket_lock.py). The
    file names the process and stays behind. On systems and file systems without such locks nothing is locked. Raises
    ValueError, naming the other process, where `what` is in use, or with `wait` (not in buckets) waits for its end;
    OSError where the file cannot be written.
    """
    if isinstance(path, Bucket):
        with bucket_lock.held(path, what, advice) as check:
            yield check
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:  # what a full disk refuses is not tried again on closing
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            file.seek(0)
            who = file.read(200).decode(errors="replace").strip() or "another process"
            raise ValueError(f"{what} is in use by {who}: {advice}") from error
        except (ImportError, OSError):
            pass
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield lambda: None
