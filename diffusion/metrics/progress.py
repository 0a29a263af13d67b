"""How far a long evaluation is: a bar on a terminal, a line a minute elsewhere, the speed at the end."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def counting(what: str, total: int, unit: str, say: Callable[[str], object]) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how many units are done; `say` prints a line.

    The first call tells what was done before, which does not count as speed. Nothing is said of what takes no time.
    """
    bar = None
    start = said = time.monotonic()
    first: int | None = None
    last = 0
    if sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=total, desc=what, unit=unit, dynamic_ncols=True, smoothing=0.1)

    def told(done: int) -> None:
        nonlocal first, last, said
        if first is None:
            first = done
            if done:
                say(f"{what:11} {done} of {total} {unit}s are there from before")
            if bar is not None:
                bar.initial = done
        last = done
        if bar is not None:
            bar.update(done - bar.n)
        elif time.monotonic() - said > EVERY:
            said = time.monotonic()
            say(f"{what:11} {done} of {total} {unit}s, {_speed(done - first, said - start, unit)}")

    try:
        yield told
    finally:
        if bar is not None:
            bar.close()
    if first is not None and last > first:
        seconds = time.monotonic() - start
        say(f"{what:11} {last - first} {unit}s in {seconds:.1f} s, {_speed(last - first, seconds, unit)}")


def _speed(done: int, seconds: float, unit: str) -> str:
    return f"{done / max(seconds, 1e-9):.3g} {unit}s/s"
