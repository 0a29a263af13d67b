"""Windows of several contestants in turn, so that a drifting or shared machine slows all alike; medians with spread.

Nothing here reads a clock: a contestant times itself, where it runs.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class Contestant(Protocol):
    """Something that is timed."""

    quantum: int
    """It takes whole multiples of this many units."""

    def run(self, units: int) -> float:
        """Does so many units of work to the very end; the seconds that they took."""
        ...


class Timing(NamedTuple):
    """Seconds per unit."""

    windows: tuple[float, ...]
    """Of each window."""
    units: int
    """Units in a window."""

    @property
    def seconds(self) -> float:
        """The median."""
        return median(self.windows)

    @property
    def spread(self) -> float:
        """Half the range of the windows over the median."""
        return (max(self.windows) - min(self.windows)) / 2 / self.seconds


def fitting(contestant: Contestant, seconds: float) -> int:
    """How many units fill a window of about so many seconds: the warm-up, a first call and one that is timed.

    At least one quantum, whatever it takes.
    """
    contestant.run(contestant.quantum)
    once = contestant.run(contestant.quantum)
    return contestant.quantum * max(1, round(seconds / max(once, 1e-9)))


def alternate(contestants: Mapping[str, Contestant], windows: int, seconds: float) -> dict[str, Timing]:
    """The timing of each contestant over `windows` windows of about `seconds`, taken in turn.

    Every second round goes backwards, so that none always runs after the same one. Raises ValueError for no window.
    """
    if windows < 1:
        raise ValueError(f"{windows} windows measure nothing: take at least 1")
    units = {name: fitting(contestant, seconds) for name, contestant in contestants.items()}
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(windows):
        for name in _order(list(contestants), i):
            found[name].append(contestants[name].run(units[name]) / units[name])
    return {name: Timing(tuple(found[name]), units[name]) for name in contestants}


def ratio(ours: Timing, rival: Timing) -> float:
    """Our time over the rival's: the median over rounds of the two windows' ratio, in which drift cancels."""
    return median(a / b for a, b in zip(ours.windows, rival.windows, strict=True))


def _order(names: Sequence[str], i: int) -> Sequence[str]:
    return names[::-1] if i % 2 else names
