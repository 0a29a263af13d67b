"""How many images previews and the final evaluation may use on this device.

64 samples of the CIFAR-10 network with 1000 steps take seconds on a GPU and hours on a CPU; the exact bound over its
10,000 test images takes minutes on a GPU and weeks on a CPU. On a CPU each evaluation is cut down to a stated number of
floating-point operations, by fewer images, and reports it. The cut depends on the network and the platform alone, never
on measured time, so a run stays reproducible.
"""

from typing import NamedTuple


class Budget(NamedTuple):
    """What one evaluation may cost."""

    flop: float
    """Floating-point operations; infinite where there is no limit."""
    forward: float
    """Floating-point operations of one network call on one image."""

    def images(self, wanted: int, steps: int) -> int:
        """How many of `wanted` images the budget allows at `steps` network calls each; possibly none."""
        return int(min(wanted, self.flop / (self.forward * steps)))


UNLIMITED = Budget(float("inf"), 1.0)
