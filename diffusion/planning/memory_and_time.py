"""What a compiled program takes on its target by published peaks: memory, times, steps per second."""

import math
from typing import NamedTuple

from diffusion.planning.hlo import Memory
from diffusion.planning.kernel_and_byte_counts import Cost
from diffusion.planning.targets import Target

SHARE = 0.35
"""Share of the peak that training steps reach on accelerators; XLA's own estimate for this step on a v5e."""
FULL = "f32"


class Estimate(NamedTuple):
    """A program on a target. Times are in seconds and, as operations and bytes, of one step on one device."""

    target: Target
    memory: Memory
    usable: float
    cost: Cost
    arithmetic: float
    traffic: float
    links: float
    steps: int
    """Steps of the run, or of a sampler's chain."""

    @property
    def fits(self) -> bool:
        """Whether a device can hold it."""
        return self.memory.total <= self.usable

    @property
    def binds(self) -> str:
        """What takes longest."""
        times = {"arithmetic": self.arithmetic, "memory": self.traffic, "links": self.links}
        return max(times, key=lambda name: times[name])

    @property
    def shortest(self) -> float:
        """Seconds a step: the roofline, all three at once at their peaks."""
        return max(self.arithmetic, self.traffic, self.links)

    @property
    def longest(self) -> float:
        """Seconds a step: arithmetic at SHARE of its peak, and collectives that nothing overlaps."""
        return max(self.arithmetic / SHARE, self.traffic) + self.links

    def hours(self) -> tuple[float, float]:
        """Hours of all steps, from the shortest to the longest."""
        return self.steps * self.shortest / 3600, self.steps * self.longest / 3600

    def price(self, per_chip_hour: float) -> tuple[float, float]:
        """The price of these hours."""
        low, high = (hours * self.target.chips * per_chip_hour for hours in self.hours())
        return low, high


def estimate(target: Target, cost: Cost, memory: Memory, steps: int) -> Estimate:
    """arithmetic = operations / peak of their type, traffic = bytes / bandwidth, links = bytes sent / link."""
    hardware = target.hardware
    arithmetic = sum(n / (hardware.peak_float32 if kind == FULL else hardware.peak) for kind, n in cost.flop.items())
    sent = sum(c.sent for c in cost.collectives.values())
    links = sent / hardware.link if sent and hardware.link else 0.0
    return Estimate(target, memory, target.usable, cost, arithmetic, cost.bytes / hardware.bandwidth, links, steps)


def known(estimate: Estimate) -> bool:
    """Whether the target has published figures, so that times mean something."""
    return math.isfinite(estimate.shortest)
