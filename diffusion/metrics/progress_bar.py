"""The progress of a long evaluation: a bar on a terminal, a line a minute elsewhere, the speed at the end."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""

Counting = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""(what, total) -> a context whose value is called with the number of images done."""


@contextmanager
def counting(what: str, total: int, unit: str, report: Callable[[str], object]) -> Iterator[Callable[[int], None]]:
    """A context whose value is to be called with the number of units done; `report` prints a line.

    The first call gives what an earlier process has done, which does not count for the speed.
    """
    bar = None
    start = last_line = time.monotonic()
    first: int | None = None
    last = 0
    if sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=total, desc=what, unit=unit, dynamic_ncols=True, smoothing=0.1)

    def count(done: int) -> None:
        nonlocal first, last, last_line
        if first is None:
            first = done
            if done:
                report(f"{what:11} {done} of {total} {unit}s exist already")
            if bar is not None:
                bar.initial = done
        last = done
        if bar is not None:
            bar.update(done - bar.n)
        elif time.monotonic() - last_line > EVERY:
            last_line = time.monotonic()
            report(f"{what:11} {done} of {total} {unit}s, {_speed(done - first, last_line - start, unit)}")

    try:
        yield count
    finally:
        if bar is not None:
            bar.close()
    if first is not None and last > first:
        seconds = time.monotonic() - start
        report(f"{what:11} {last - first} {unit}s in {seconds:.1f} s, {_speed(last - first, seconds, unit)}")


def _speed(done: int, seconds: float, unit: str) -> str:
    return f"{done / max(seconds, 1e-9):.3g} {unit}s/s"
