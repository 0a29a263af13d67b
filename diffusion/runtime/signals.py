"""Ending on a signal: the first SIGTERM or SIGINT ends the run at the next safe point, the second at once.

    with Stop.on_signals(resumable=True) as stop:      # from here a signal raises Stopped, as Ctrl-C would
        with stop.deferred():                          # in here it only sets a flag, which
            while not stop.agreed():                   # is looked at where the state is whole
                ...
                with stop.interruptible():             # work that may be dropped: Stopped again
                    ...

Python runs a signal's handler between two bytecodes, so not during a compilation or a wait for the device. A thread
that reads the signals' wake-up pipe says at once that one has come, and ends the process on the second.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

STOPPED = 75
"""Exit status of a run that was stopped by a signal and goes on when it is started again (EX_TEMPFAIL)."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
TWICE = 0.1
"""Seconds within which several signals count as one: launchers and shells pass the same one on more than once."""


class Stopped(KeyboardInterrupt):
    """A signal ends the run. `status` is the process's exit status."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Stop:
    """Whether a signal has come. One that is never connected to signals (Stop()) never stops anything."""

    def __init__(self, resumable: bool = False):
        self._resumable = resumable
        self._number, self._since = 0, 0.0
        self._deferred = self._armed = self._raised = False
        self._sum: Callable[[Any], Any] | None = None
        self._pending: Any = None

    @classmethod
    @contextmanager
    def on_signals(cls, resumable: bool = False) -> Iterator["Stop"]:
        """A Stop that SIGTERM and SIGINT reach; in a thread other than the main one, which gets no signals, none do.

        resumable: the status is 75, whatever the signal; else 128 + its number. A signal that the process was started
        to ignore stays ignored.
        """
        stop = cls(resumable)
        if threading.current_thread() is not threading.main_thread():
            yield stop
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        ends = os.pipe()
        os.set_blocking(ends[1], False)
        stop._arm()
        wakeup = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        watcher = threading.Thread(target=stop._watch, args=(ends[0],), name="signals", daemon=True)
        watcher.start()
        hook, sys.unraisablehook = sys.unraisablehook, partial(_unraisable, sys.unraisablehook)
        try:
            yield stop
        finally:
            sys.unraisablehook = hook
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(ends[1])
            watcher.join(1.0)

    @property
    def asked(self) -> bool:
        """Whether a signal has come to this process."""
        return self._number > 0

    def stopped(self) -> Stopped:
        """What to raise at a safe point."""
        name = f" by {signal.Signals(self._number).name}" if self._number else ""
        if self._resumable:
            return Stopped(f"stopped{name}: start it again to go on", STOPPED)
        return Stopped(f"interrupted{name}", 128 + (self._number or signal.SIGINT))

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a signal raises nothing: ask `agreed`."""
        before, self._deferred = self._deferred, True
        if self._armed:
            self._arm()  # jax.distributed puts a handler of its own in place of ours
        try:
            yield
        finally:
            self._deferred = before

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, a signal raises Stopped: for work whose result may be lost.

        With several processes it does not, for the others would wait for this one.
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
            if self.asked:
                raise self.stopped()  # the exception was raised where it went lost, such as in a destructor
        finally:
            self._deferred = before

    def agreed(self, wait: bool = False) -> bool:
        """Whether any process was asked to stop: the same answer in all of them. To be called by all of them alike.

        With several processes the answer is that of the call before, whose sum over processes was computed behind the
        training steps, so that no device waits; with `wait` it is that of this call.
        """
        import jax

        if jax.process_count() == 1:
            return self.asked
        before, self._pending = self._pending, self._total()
        known = self._pending if wait else before
        return known is not None and int(known) > 0

    def _total(self) -> Any:
        """How many devices belong to processes that were asked to stop, as an array that is the same everywhere."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec

        mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))
        if self._sum is None:
            self._sum = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
        mine = np.full(jax.local_device_count(), self.asked, np.int32)
        return self._sum(jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), mine))

    def _arm(self) -> None:
        self._armed = True
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._received)

    def _received(self, number: int, frame: Any) -> None:  # noqa: ARG002
        """Python's handler, in the main thread."""
        self._note(number)
        if not self._deferred and not self._raised:
            self._raised = True
            raise self.stopped()

    def _watch(self, pipe: int) -> None:
        """The thread that sees signals at once."""
        with os.fdopen(pipe, "rb", buffering=0) as ends:
            while byte := ends.read(1):
                number = byte[0]
                if number not in SIGNALS:
                    continue
                if self._since and time.monotonic() - self._since > TWICE:
                    os._exit(128 + number)
                if not self._since:
                    self._since = time.monotonic()
                    self._note(number)
                    if self._deferred:
                        os.write(2, _NOTICE)

    def _note(self, number: int) -> None:
        if not self._number:
            self._number = number


def _unraisable(usual: Callable[[Any], object], lost: Any) -> None:
    """What Python reports of an exception that went lost in a destructor or a callback: nothing if it is ours.

    The run ends all the same, where `asked` is looked at next.
    """
    if not isinstance(lost.exc_value, Stopped):
        usual(lost)


_NOTICE = b"stopping    the step under way is finished and the state saved; a second signal ends the process at once\n"
