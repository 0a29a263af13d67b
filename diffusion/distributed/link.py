"""A process's connection to the meeting place."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from diffusion.distributed.roll import BEAT, GONE, MOST, PATIENCE, SIGHT, SILENCE, STOPPED

RETRY = 0.2
"""Seconds between attempts to reach the meeting place."""


class Link:
    """The connection of process `process` of `n`, from its first word; `join` ends the start-up."""

    def __init__(self, address: tuple[str, int], process: int, n: int, limit: float):
        self.process, self.n = process, n
        self._limit = limit
        self._lock = threading.Lock()
        self._noted = threading.Event()
        self._ended = False
        self._lost: Callable[[str, int], None] = lambda line, status: None  # noqa: ARG005
        self._connection = self._reach(*address, limit)
        self._lines = self._connection.makefile("rb")

    def join(self, facts: Mapping[str, Any], folder: Path, token: str) -> int:
        """Waits for the others; returns the port of jax's service once all may start.

        `facts` must be the same everywhere. `token` is process 0's: the name of a file in the folder, which all must
        see. Raises ValueError in one line where someone is missing or differs.
        """
        about = {"host": socket.gethostname(), "pid": os.getpid(), "facts": dict(facts), "token": token}
        self._say({"process": self.process, "of": self.n, **about})
        go = self._hear()
        until = time.monotonic() + SIGHT
        while not (seen := (folder / go["token"]).exists()) and time.monotonic() < until:
            time.sleep(RETRY)
        self._say({"seen": seen})
        self._hear()
        return int(go["go"])

    def watch(self, lost: Callable[[str, int], None]) -> None:
        """From here on `lost(line, status)` is called, in a thread, when another process has ended before its time."""
        self._lost = lost
        self._connection.settimeout(None)
        threading.Thread(target=self._listen, name="link", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def end(self, why: str = "", status: int = 0) -> None:
        """The last word of this process. With an error it waits to hear whether another process's end explains it."""
        self._ended = status == 0
        self._say({"end": why, "status": status})
        if status:
            self._noted.wait(PATIENCE * (41 if status == STOPPED else 2))
        self._ended = True

    def close(self) -> None:
        """Hangs up."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _reach(self, host: str, port: int, limit: float) -> socket.socket:
        deadline = time.monotonic() + limit
        while True:
            try:
                return socket.create_connection((host, port), timeout=max(1.0, min(10.0, limit)))
            except OSError as error:
                if time.monotonic() > deadline:
                    why = error.strerror or error
                    raise ValueError(
                        f"process 0 has not come within {limit:.0f} s: nobody answers at {host}:{port} ({why}); start "
                        "it there, or see its log, and whether a firewall is between"
                    ) from error
                time.sleep(RETRY)

    def _hear(self) -> dict[str, Any]:
        """The next answer of the start-up. Raises ValueError where it is no."""
        self._connection.settimeout(self._limit + 2 * SIGHT)
        try:
            answer = json.loads(self._lines.readline(MOST) or b"{}")
        except (OSError, ValueError):
            answer = {}
        if not answer or answer.get("fail"):
            gone = f"process 0 of {self.n} left during start-up; its log says why"
            raise ValueError(answer.get("fail") or gone)
        return answer

    def _listen(self) -> None:
        heard = {"lost": self._tell_lost, "noted": lambda message: self._noted.set()}  # noqa: ARG005
        self._connection.settimeout(SILENCE)
        line, why = b"", "its connection was closed"
        try:
            while line := self._lines.readline(MOST):
                message = json.loads(line)
                for name, act in heard.items():
                    if name in message:
                        act(message)
        except TimeoutError:
            why = f"not heard from for {SILENCE:.0f} s"
        except (OSError, ValueError):
            pass
        if not self._ended:
            who = f"process 0 of {self.n} and its host have" if self.process else "the processes' meeting place has"
            self._lost(f"{who} gone ({why})", GONE)
        self._noted.set()

    def _tell_lost(self, message: dict[str, Any]) -> None:
        if not self._ended:
            self._lost(str(message["lost"]), int(message["status"]))

    def _beat(self) -> None:
        while not self._ended:
            self._say({"beat": 1})
            time.sleep(BEAT)

    def _say(self, message: dict[str, Any]) -> None:
        with self._lock, suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")
