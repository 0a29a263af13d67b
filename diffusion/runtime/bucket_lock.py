"""A lock that one process at a time holds, where objects can be created but not locked. Imports nothing heavy.

    lock/00000007      {"owner": "process 12 on node3", "beat": 31, "held": true, ...}

The holder is the process of the highest number, which only one process can create. It counts up `beat` every
HEARTBEAT seconds. A lock whose beat stands still for LEASE seconds, by the clock of who waits for it, is taken over by
creating the next number; so is, at once, that of a process of this machine which has ended. No clocks are compared.
"""

import json
import os
import signal
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffusion.runtime.bucket_path import Bucket

HEARTBEAT = 10.0
LEASE = 120.0
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Tells machines of one name apart."""
_own: set[str] = set()
"""The locks that this process holds."""


@contextmanager
def held(folder: Bucket, what: str, advice: str) -> Iterator[Callable[[], None]]:
    """Holds the lock until the block ends; gives a function that raises ValueError where another process took it.

    A thread keeps it. When it is lost, the process gets SIGTERM, so that a run stops; its check fails then. Raises
    ValueError, naming the holder, where `what` is in use.
    """
    lease = _Lease(folder, *_acquire(folder, what, advice))
    _own.add(lease.id)
    thread = threading.Thread(target=lease.keep, name="bucket lock", daemon=True)
    thread.start()
    try:
        yield lease.check
    finally:
        lease.ended.set()
        _own.discard(lease.id)
        thread.join(HEARTBEAT)
        if not lease.lost:
            with suppress(OSError):
                lease.write(held=False)


def newest(folder: Bucket) -> tuple[int, dict[str, Any]]:
    """The highest number and its content; 0 and nothing where the lock was never taken."""
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    if not numbers:
        return 0, {}
    try:
        content = json.loads((folder / _name(max(numbers))).read_bytes())
    except (ValueError, FileNotFoundError):
        content = {}
    return max(numbers), content if isinstance(content, dict) else {}


def _acquire(folder: Bucket, what: str, advice: str) -> tuple[int, dict[str, Any]]:
    """Creates the next number and returns it, with its content."""
    mine = {
        "owner": f"process {os.getpid()} on {socket.gethostname()}",
        "pid": os.getpid(),
        "machine": _machine(),
        "id": uuid.uuid4().hex,
        "beat": 0,
        "held": True,
    }
    while True:
        number, holder = newest(folder)
        if holder.get("held") and not _ended(holder):
            if not _silent(folder, number, holder):
                raise ValueError(f"{what} is in use by {holder['owner']}: {advice}")
            warnings.warn(f"{what}: taken over from {holder['owner']}, silent for {LEASE:.0f} s", stacklevel=2)
        if (folder / _name(number + 1)).create(json.dumps(mine).encode()):
            break
    for path in folder.glob("*"):
        if path.name < _name(number + 1):
            path.unlink(missing_ok=True)
    return number + 1, mine


def _silent(folder: Bucket, number: int, holder: dict[str, Any]) -> bool:
    """Whether the holder's beat stands still for LEASE seconds."""
    deadline, told = time.monotonic() + LEASE, time.monotonic() + 1.5 * HEARTBEAT
    while time.monotonic() < deadline:
        time.sleep(min(1.0, HEARTBEAT / 4))
        if newest(folder) != (number, holder):
            return False
        if time.monotonic() > told:
            warnings.warn(f"{folder.parent}: {holder['owner']} is silent; waiting for {LEASE:.0f} s", stacklevel=2)
            told = deadline
    return True


class _Lease:
    """A number of the lock that this process created."""

    def __init__(self, folder: Bucket, number: int, content: dict[str, Any]):
        self.ended, self.lost, self.id = threading.Event(), "", content["id"]
        self._folder, self._number, self._content = folder, number, content
        self._changing = threading.Lock()

    def check(self) -> None:
        """Raises ValueError where another process holds the lock, or the bucket is gone."""
        number, holder = newest(self._folder)
        if not number:
            self.lost = f"{self._folder.parent} is gone, with its lock"
        elif holder.get("id") != self.id:
            self.lost = f"{self._folder.parent} was taken over by {holder.get('owner', 'another process')}"
        if self.lost:
            raise ValueError(self.lost)

    def write(self, **changes: Any) -> None:
        """Writes the lock with changes. Raises OSError."""
        with self._changing:
            self._content |= changes
            (self._folder / _name(self._number)).write_bytes(json.dumps(self._content).encode())

    def keep(self) -> None:
        """Counts up the beat until the end. A service that is busy does not end it."""
        while not self.ended.wait(HEARTBEAT):
            try:
                self.check()
                self.write(beat=self._content["beat"] + 1)
            except (OSError, ValueError):
                pass  # what is lost is noted
            if self.lost:
                if callable(signal.getsignal(signal.SIGTERM)):
                    os.kill(os.getpid(), signal.SIGTERM)
                return


def _ended(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended, or had the number of this process."""
    if holder.get("machine") != _machine():
        return False
    if holder["pid"] != os.getpid():
        try:
            os.kill(holder["pid"], 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
    return holder["pid"] == os.getpid() and holder["id"] not in _own


def _machine() -> str:
    boot = BOOT.read_text().strip() if BOOT.exists() else ""
    return f"{socket.gethostname()} {boot}"


def _name(number: int) -> str:
    return f"{number:08d}"
