"""The processes of a run meet at one address before jax starts, and each learns at once when another one ends.

The meeting place is a small process beside process 0, which starts it. It waits for all processes, compares what they
are about to run, hosts jax's coordination service and keeps a connection to each of them: the system closes it when a
process dies, however it dies, and a host that went dark stops sending. The service stands here because jax aborts every
process, in C++, the moment it is lost; so the end of process 0 can be told like that of any other.

    process 0 starts it    python -c "from diffusion.distributed import meeting; meeting.main(PORT, PROCESSES, SECONDS)"
    a process says         {"process": 1, "of": 4, "host": ..., "pid": ..., "facts": {...}}
    is answered            {"fail": why}, or {"go": port of jax's service, "token": a file to look for}
    says, is answered      {"seen": true}; {"fail": why}, or {"ready": true}
    from then on, both     {"beat": 1} every few seconds
    a process says         {"end": why, "status": 2}; status 0: all is done
    is told                {"lost": who and why, "status": what to end with}, or {"noted": true} after an end of its own

Standard library alone: to wait for others must not cost the start of jax.
"""

import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from diffusion.distributed.guest import Guest
from diffusion.distributed.roll import BEAT, GONE, PATIENCE, SIGHT, SILENCE, STOPPED, differing, missing, who

NEAR = 20
"""Jax's service listens at the first free port of so many after the meeting place's, or before it."""


class Meeting:
    """The meeting of `processes` processes at a port; `serve(port)` starts jax's service."""

    def __init__(self, port: int, processes: int, limit: float, serve: Callable[[int], Any]):
        self.n, self._limit, self._serve, self._port = processes, limit, serve, port
        self._door = listener(port)
        self._door.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._guests: list[Guest] = []
        self._here: dict[int, Guest] = {}
        self._wrong = ""
        self._ready = self._told = False
        self._failed: tuple[float, Guest] | None = None

    def hold(self) -> bool:
        """From the first hello to the last end; whether the run began."""
        deadline = time.monotonic() + self._limit
        self._until(lambda: len(self._here) == self.n, deadline)
        hellos = {process: guest.hello for process, guest in self._here.items()}
        wrong = self._wrong or missing(hellos, self.n, self._limit) or differing(hellos)
        service = None
        if not wrong:
            port = free_port(self._port)
            service = self._serve(port)
            self._tell({"go": port, "token": hellos[0].get("token", "")})
            deadline = time.monotonic() + 2 * SIGHT
            self._until(lambda: all(guest.seen is not None for guest in self._here.values()), deadline)
            blind = [who(hellos, process) for process, guest in sorted(self._here.items()) if not guest.seen]
            if blind:
                wrong = (
                    f"{' and '.join(blind)} cannot see the run's folder of process 0; --workdir must be on a file "
                    "system that all hosts share"
                )
            wrong = self._wrong or wrong
        if wrong:
            self._tell({"fail": wrong})
            deadline = time.monotonic() + PATIENCE
            while self._here and time.monotonic() < deadline:
                self._turn(0.1)
            return False
        self._ready = True
        for guest in self._here.values():
            guest.heard = time.monotonic()
        self._tell({"ready": True})
        self._watch()
        del service
        return True

    def _watch(self) -> None:
        """Until the last process has left."""
        beaten = time.monotonic()
        while self._here:
            self._turn(0.5)
            now = time.monotonic()
            for guest in list(self._here.values()):
                if guest.end is None and now - guest.heard > SILENCE:
                    self._lose(guest, f"not heard from for {SILENCE:.0f} s")
            if now - beaten > BEAT:
                self._tell({"beat": 1})
                beaten = now
            self._judge(now)

    def _judge(self, now: float) -> None:
        """Tells of a process that ended with an error, once it is clear that no other one's end is behind it."""
        if self._told or self._failed is None:
            return
        since, guest = self._failed
        why, status = guest.end or ("", GONE)
        everyone = all(other.end is not None for other in self._here.values())
        if everyone or now - since > PATIENCE * (40 if status == STOPPED else 1):
            self._tell({"noted": True}, lambda other: other.end is not None)
            text = f"process {guest.process} of {self.n} ({guest.hello['host']}) has ended: {why}"
            self._tell({"lost": text, "status": status}, lambda other: other.end is None)
            self._told = True

    def _lose(self, guest: Guest, why: str) -> None:
        """A process that left without a word."""
        self._drop(guest)
        if not self._ready:
            self._wrong = self._wrong or f"process {guest.process} of {self.n} left during start-up; its log says why"
        elif not self._told:
            whence = f"{guest.hello['host']}, process id {guest.hello['pid']}: {why}"
            self._tell({"lost": f"process {guest.process} of {self.n} has gone ({whence})", "status": GONE})
            self._told = True

    def _until(self, done: Callable[[], bool], deadline: float) -> None:
        while not done() and not (self._wrong and not self._ready) and time.monotonic() < deadline:
            self._turn(0.1)

    def _turn(self, seconds: float) -> None:
        """Whatever comes in within so many seconds."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._door:
                with suppress(OSError):
                    connection, _ = self._door.accept()
                    connection.settimeout(PATIENCE)
                    guest = Guest(connection)
                    self._guests.append(guest)
                    self._selector.register(connection, selectors.EVENT_READ, guest)
                continue
            guest = key.data
            messages = guest.messages()
            for message in messages or []:
                self._hear(guest, message)
            if messages is None:
                if guest.process < 0 or guest.end is not None or guest.seen is False:
                    self._drop(guest)
                else:
                    self._lose(guest, "its connection was closed")

    def _hear(self, guest: Guest, message: dict[str, Any]) -> None:
        for name, act in {"process": self._greet, "seen": self._look, "end": self._end}.items():
            if name in message:
                act(guest, message)

    def _look(self, guest: Guest, message: dict[str, Any]) -> None:
        guest.seen = bool(message["seen"])

    def _end(self, guest: Guest, message: dict[str, Any]) -> None:
        guest.end = str(message["end"]), int(message["status"])
        if guest.end[1] and self._failed is None:
            self._failed = time.monotonic(), guest

    def _greet(self, guest: Guest, hello: dict[str, Any]) -> None:
        process, of = hello["process"], hello["of"]
        if self._ready or len(self._here) == self.n:
            guest.tell({"fail": f"the run at this address has its {self.n} processes; is an earlier one still there?"})
        elif of != self.n:
            self._wrong = (
                f"process {process} ({hello['host']}) was started as one of {of}, process 0 as one of {self.n}"
            )
            guest.tell({"fail": self._wrong})
        elif process in self._here:
            other = self._here[process].hello["host"]
            self._wrong = f"two processes say that they are process {process} of {of}, on {other} and {hello['host']}"
            guest.tell({"fail": self._wrong})
        else:
            guest.process, guest.hello = process, hello
            self._here[process] = guest

    def _drop(self, guest: Guest) -> None:
        self._selector.unregister(guest.connection)
        guest.connection.close()
        self._guests.remove(guest)
        if self._here.get(guest.process) is guest:
            del self._here[guest.process]

    def _tell(self, message: dict[str, Any], to: Callable[[Guest], bool] = lambda guest: True) -> None:  # noqa: ARG005
        for guest in list(self._here.values()):
            if to(guest):
                guest.tell(message)


def listener(port: int) -> socket.socket:
    """A socket that listens at a port of every address of this host. Raises OSError where the port is taken."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", port), backlog=1024)


def free_port(near: int) -> int:
    """A port that nobody listens at, the first after `near` or else before it."""
    for port in (*range(near + 1, near + 1 + NEAR), *range(near - NEAR, near)):
        with suppress(OSError, OverflowError), listener(port):
            return port
    raise OSError(f"no port near {near} is free")


def main(port: int, processes: int, limit: float) -> None:
    """The meeting place's process. Its first line of output is empty, or says why there is none."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends when those that it serves have ended

    def serve(port: int) -> Any:
        from jaxlib import _jax  # pyright: ignore[reportAttributeAccessIssue]

        return _jax.get_distributed_runtime_service(f"[::]:{port}", processes, heartbeat_timeout=2 * int(SILENCE))

    try:
        meeting = Meeting(port, processes, limit, serve)
    except OSError as error:
        print(error.strerror or error, flush=True)
        return
    print(flush=True)
    meeting.hold()
