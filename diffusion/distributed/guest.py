"""A connection to the meeting place, as it sees it."""

import json
import socket
import time
from contextlib import suppress
from typing import Any

from diffusion.distributed.roll import MOST


class Guest:
    """A connection: at first anybody's, a process's once it has said which."""

    def __init__(self, connection: socket.socket):
        self.connection, self.process = connection, -1
        self.hello: dict[str, Any] = {}
        self.seen: bool | None = None
        self.end: tuple[str, int] | None = None
        self.heard = time.monotonic()
        self._text = b""

    def messages(self) -> list[dict[str, Any]] | None:
        """What has come in; None when the connection is closed."""
        try:
            chunk = self.connection.recv(2**16)
        except OSError:
            return None
        *lines, self._text = (self._text + chunk).split(b"\n")
        if not chunk or len(self._text) > MOST:
            return None
        self.heard = time.monotonic()
        found = []
        for line in lines:
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError):
                return None  # not one of us
        return found

    def tell(self, message: dict[str, Any]) -> None:
        """Sends a message; one that is not there any more is found out when it is read from."""
        with suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")
