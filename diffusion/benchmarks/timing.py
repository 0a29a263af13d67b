"""Windows of several workloads in turn, so that a drifting or shared machine slows all alike; medians with spread."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple


class Workload(NamedTuple):
    """A repeatable piece of work."""

    run: Callable[[int], object]
    """Does this many units of work; returns when the device is done."""
    facts: Mapping[str, Any] = {}
    """Facts for the table, as JSON."""
    quantum: int = 1
    """`run` takes multiples of this number."""

    def seconds(self, units: int) -> float:
        """Seconds that this many units take."""
        start = time.perf_counter()
        self.run(units)
        return time.perf_counter() - start


class Timing(NamedTuple):
    """Seconds per unit."""

    windows: tuple[float, ...]
    """Seconds per unit of each window."""
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


def fitting(workload: Workload, seconds: float) -> int:
    """Units that fill a window of about `seconds`, at least one quantum; from a warm-up call and a timed one."""
    workload.run(workload.quantum)
    once = workload.seconds(workload.quantum)
    return workload.quantum * max(1, round(seconds / max(once, 1e-9)))


def alternate(workloads: Mapping[str, Workload], windows: int, seconds: float) -> dict[str, Timing]:
    """The timing of each workload over `windows` >= 1 windows of about `seconds`, taken in turn.

    Every second round runs in reverse order.
    """
    units = {name: fitting(workload, seconds) for name, workload in workloads.items()}
    seconds_per_unit: dict[str, list[float]] = {name: [] for name in workloads}
    for i in range(windows):
        for name in list(workloads)[:: -1 if i % 2 else 1]:
            seconds_per_unit[name].append(workloads[name].seconds(units[name]) / units[name])
    return {name: Timing(tuple(seconds_per_unit[name]), units[name]) for name in workloads}


def ratio(timing: Timing, other: Timing) -> float:
    """Time of the first over that of the other: the median ratio of the windows of a round, in which drift cancels."""
    return median(a / b for a, b in zip(timing.windows, other.windows, strict=True))
