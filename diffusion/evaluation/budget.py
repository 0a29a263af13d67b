"""How much looking a device can afford: previews and the closing report cost network evaluations too.

64 samples by 1000 steps of the CIFAR-10 network are seconds on a GPU and hours on a CPU; the exact bound over its
10,000 test images is minutes on a GPU and weeks on a CPU. On a CPU each look is cut down to a stated number of
floating-point operations, by fewer images, and says so. The cut depends on the network and the platform alone, never on
measured time, so a run stays reproducible.
"""

from typing import NamedTuple


class Budget(NamedTuple):
    """What one look may cost."""

    flop: float
    """Floating-point operations; infinite where there is no limit."""
    forward: float
    """Those of one network evaluation of one image."""

    def images(self, wanted: int, steps: int) -> int:
        """How many of `wanted` images can be afforded at `steps` network evaluations each; possibly none."""
        return int(min(wanted, self.flop / (self.forward * steps)))


UNLIMITED = Budget(float("inf"), 1.0)
