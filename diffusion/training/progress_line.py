"""Speed, time to finish, and the progress line: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from tqdm import tqdm

from diffusion.runtime import format_numbers

TIMED_DISPATCHES = 3
"""Dispatches after the first (which compiles) that give the first estimate of the remaining time."""


class Progress:
    """Speed and progress of a run from step `first` to step `last`; `since` is its start by time.monotonic()."""

    def __init__(
        self, first: int, last: int, batch_size: int, report: Callable[[str], None], since: float | None = None
    ):
        self._last, self._batch_size, self._print = last, batch_size, report
        self._dispatches, self._step = 0, first
        self._start = time.monotonic() if since is None else since
        self._mark = (first, self._start)
        plain = not sys.stderr.isatty() or jax.process_index() != 0
        self._bar = tqdm(total=last, initial=first, unit="step", dynamic_ncols=True, smoothing=0.1, disable=plain)
        self.images_per_second = 0.0

    def after_dispatch(self, step: int, result: Any) -> None:
        """Called after each dispatch; waits for `result` only in the first few, to time them."""
        self._bar.update(step - self._step)
        self._dispatches, self._step = self._dispatches + 1, step
        if self._dispatches == 1:
            jax.block_until_ready(result)
            now = time.monotonic()
            self.report(f"first step  after {format_numbers.duration(now - self._start)}, compilation included")
            self._mark = (step, now)
        elif self._dispatches == 1 + TIMED_DISPATCHES:
            jax.block_until_ready(result)
            left = self._measure()
            self.report(
                f"speed       {self.images_per_second:.3g} images/s, about {format_numbers.duration(left)} left"
            )

    def show(self, step: int, loss: float) -> None:
        """The progress line of an interval that ended at `step`; speed and remaining time are the current ones."""
        left = self._measure()
        shown = [f"loss {loss:.4f}"]
        if self.images_per_second:  # not before a second dispatch
            shown.append(f"{self.images_per_second:.3g} images/s")
        self._bar.set_postfix_str(", ".join(shown))
        if self._bar.disable:
            shown += [f"{format_numbers.duration(left)} left"] * (len(shown) > 1)
            self._print(f"step {step}/{self._last}  {'  '.join(shown)}")

    def report(self, line: str) -> None:
        """Prints a line without breaking the bar."""
        if self._bar.disable:
            self._print(line)
        else:
            self._bar.write(line, file=sys.stderr)

    @contextmanager
    def pause(self, result: Any) -> Iterator[None]:
        """Waits for `result`; time spent inside does not count in the speed."""
        jax.block_until_ready(result)
        start = time.monotonic()
        yield
        self._mark = (self._mark[0], self._mark[1] + time.monotonic() - start)

    def close(self) -> None:
        """Closes the bar."""
        self._bar.close()

    def _measure(self) -> float:
        """The seconds left; updates the speed from the steps dispatched since the last call.

        Metrics are read late, but the device accepts dispatches at the speed at which it computes them.
        """
        now = time.monotonic()
        if self._step > self._mark[0]:
            self.images_per_second = (self._step - self._mark[0]) * self._batch_size / max(now - self._mark[1], 1e-9)
            self._mark = (self._step, now)
        return (self._last - self._step) * self._batch_size / max(self.images_per_second, 1e-9)
