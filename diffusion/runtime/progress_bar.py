"""The progress of a long evaluation: a bar on a terminal, a line a minute elsewhere, the speed at the end."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tqdm import tqdm

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""

Counting = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""(what, total) -> a context whose value is called with the number of images done."""


@contextmanager
def counting(what: str, total: int, unit: str, report: Callable[[str], object]) -> Iterator[Callable[[int], None]]:
    """A context whose value is to be called with the number of units done; `report` prints a line.

    The first call gives what an earlier process has done, which does not count for the speed.
    """
    start = last_line = time.monotonic()
    first: int | None = None
    last = 0

    def speed() -> str:
        return f"{(last - (first or 0)) / max(time.monotonic() - start, 1e-9):.3g} {unit}s/s"

    def count(done: int) -> None:
        nonlocal first, last, last_line
        if first is None:
            first = bar.initial = done
            if done:
                report(f"{what:11} {done} of {total} {unit}s exist already")
        bar.update(done - last)
        last = done
        if bar.disable and time.monotonic() - last_line > EVERY:
            last_line = time.monotonic()
            report(f"{what:11} {done} of {total} {unit}s, {speed()}")

    with tqdm(
        total=total, desc=what, unit=unit, dynamic_ncols=True, smoothing=0.1, disable=not sys.stderr.isatty()
    ) as bar:
        yield count
    if first is not None and last > first:
        report(f"{what:11} {last - first} {unit}s in {time.monotonic() - start:.1f} s, {speed()}")
