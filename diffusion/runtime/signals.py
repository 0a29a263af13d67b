"""Stopping on a signal: the first SIGTERM or SIGINT stops the run at the next safe point, the second at once.

    with Stop.on_signals(resumable=True) as stop:      # a signal raises Stopped, like Ctrl-C
        with stop.deferred():                          # here it only sets a flag
            while not stop.agreed():                   # which is checked between steps
                ...
                with stop.interruptible():             # raises Stopped again: for work that may be lost
                    ...

Python runs a signal's handler between two bytecodes, so not during a compilation or while waiting for the device. A
thread that reads the signals' wake-up pipe reports the first one at once and ends the process on the second. Where
Python can only print an exception and go on, as in a callback of the garbage collector, Stopped is raised once more.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STOPPED = 75
"""Exit status of a run that was stopped by a signal and resumes when it is started again (EX_TEMPFAIL)."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGAIN = signal.SIGURG
"""What this process sends itself to raise a lost Stopped again; outside of `on_signals` it does nothing."""
TWICE = 0.1
"""Seconds within which several signals count as one: launchers and shells may forward the same one twice."""
NOTICE = b"stopping    after the current step; a second signal ends the process at once\n"


class Stopped(KeyboardInterrupt):
    """A signal ends the run. `status` is the process's exit status."""

    alone = False
    """Whether it was raised where the signal came, and not where all processes of a run have agreed to stop."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Stop:
    """Whether a signal has arrived. Stop() itself is not connected to signals and never stops anything."""

    _again = 0
    """The number of the signal whose Stopped was lost, if that has not been raised again."""

    def __init__(self, resumable: bool = False):
        self._resumable = resumable
        self._number = 0
        self._deferred = False
        self._sum: Callable[[Any], Any] | None = None
        self._pending: Any = None

    @classmethod
    @contextmanager
    def on_signals(cls, resumable: bool = False) -> Iterator["Stop"]:
        """A Stop that receives SIGTERM and SIGINT. Call it in the main thread, which alone gets signals.

        resumable: the exit status is 75 whatever the signal, otherwise 128 + its number. A signal that the process
        ignored from its start stays ignored.
        """
        stop = cls(resumable)
        before = {number: signal.getsignal(number) for number in (*SIGNALS, AGAIN)}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop._received)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        watcher = threading.Thread(target=stop._watch, args=(reader,), name="signals", daemon=True)
        watcher.start()
        hook, sys.unraisablehook = sys.unraisablehook, lambda lost: stop._lost(lost) or hook(lost)
        try:
            yield stop
        finally:
            sys.unraisablehook = hook
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)
            watcher.join(1.0)

    @property
    def asked(self) -> bool:
        """Whether this process has received a signal."""
        return self._number > 0

    def stopped(self) -> Stopped:
        """The exception to raise at a safe point."""
        name = f" by {signal.Signals(self._number).name}" if self._number else ""
        if self._resumable:
            return Stopped(f"stopped{name}: start it again to resume", STOPPED)
        return Stopped(f"interrupted{name}", 128 + (self._number or signal.SIGINT))

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal raises nothing; check `agreed`."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, a signal raises Stopped: for work whose result may be lost.

        With several processes it does not: the others would wait for this one.
        """
        import jax

        if jax.process_count() > 1:
            yield
            return
        before, self._deferred = self._deferred, False
        try:
            if self.asked:
                raise self.stopped()
            yield
        finally:
            self._deferred = before

    @contextmanager
    def together(self) -> Iterator[Callable[..., None]]:
        """Inside, several processes stop only where all of them call its value; a single one stops at once."""
        import jax

        if jax.process_count() == 1:
            yield lambda *_: None
            return

        with self.deferred():
            yield lambda *_: self.check(wait=True)

    def check(self, wait: bool = False) -> None:
        """Raises Stopped in all processes where they have `agreed` to stop."""
        if self.agreed(wait):
            raise self.stopped()

    def agreed(self, wait: bool = False) -> bool:
        """Whether any process has received a signal: the same answer in all of them, which must all call this.

        With several processes the answer is that of the previous call, whose sum over processes was computed behind
        the training steps, so that no device waits; with `wait` it is that of this call.
        """
        import jax

        if jax.process_count() == 1:
            return self.asked
        before, self._pending = self._pending, self._total()
        total = self._pending if wait else before
        return total is not None and int(total) > 0

    def _total(self) -> Any:
        """The number of devices of processes that received a signal, as an array that all processes share."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec

        mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))
        if self._sum is None:
            self._sum = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
        mine = np.full(jax.local_device_count(), self.asked, np.int32)
        return self._sum(jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), mine))

    def _received(self, number: int, frame: Any) -> None:  # noqa: ARG002
        """Python's handler, in the main thread."""
        if number == AGAIN:
            number, Stop._again = Stop._again, 0
        elif self.asked:
            return
        if not number:  # AGAIN came from elsewhere
            return
        self._number = self._number or number
        if not self._deferred:
            error = self.stopped()
            error.alone = True
            raise error

    def _lost(self, lost: Any) -> bool:
        """Whether an exception that Python has only printed is a Stopped, which is then raised again a moment later."""
        if not isinstance(lost.exc_value, Stopped):
            return False
        Stop._again = self._number
        threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, AGAIN)).start()
        return True

    def _watch(self, pipe: int) -> None:
        """Runs in the thread that receives signals at once."""
        since = 0.0
        with os.fdopen(pipe, "rb", buffering=0) as signals:
            while byte := signals.read(1):
                if byte[0] not in SIGNALS:
                    continue
                if not since:
                    since = time.monotonic()
                    if self._deferred:
                        os.write(2, NOTICE)
                elif time.monotonic() - since > TWICE:
                    os._exit(128 + byte[0])
