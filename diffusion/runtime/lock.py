"""A lock file that one process at a time holds. Imports nothing heavy."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def exclusive(path: Path, what: str, advice: str, *, remove: bool = False) -> Iterator[None]:
    """Holds a lock file for this process alone, until the block ends or the process dies.

    The file names the process. It stays behind unless `remove` is set. On systems and file systems without such locks
    nothing is locked. Raises ValueError, naming the other process, where `what` is in use; OSError where the file
    cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+b", buffering=0)  # what a full disk refuses is not tried again on closing
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with file:
                file.seek(0)
                who = file.read(200).decode(errors="replace").strip() or "another process"
            raise ValueError(f"{what} is in use by {who}: {advice}") from error
        except (ImportError, OSError):
            break
        if _is_at(file.fileno(), path):
            break
        file.close()  # its last holder has removed it in between
    with file:
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield
        finally:
            if remove:
                with suppress(OSError):
                    path.unlink()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that its path names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
