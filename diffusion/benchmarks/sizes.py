"""Networks, batches, measures and lengths of windows."""

from typing import Any, NamedTuple

Batches = dict[str, tuple[int, ...]]
"""Measure -> batches."""


class Size(NamedTuple):
    """A network and its data."""

    config: str
    changes: dict[str, Any]
    """Keys set over the config."""
    shape: tuple[int, int, int]
    images: int
    """Images of the data set."""
    cpu: Batches
    accelerator: Batches

    def batches(self, platform: str) -> Batches:
        """The batches on a platform."""
        return {"cpu": self.cpu}.get(platform, self.accelerator)


class Pace(NamedTuple):
    """Number and length of windows."""

    windows: int
    seconds: float
    """Length of a window, which is at least one unit of work."""


MEASURES = {
    "train": "training step",
    "forward": "forward",
    "chain": "1000-step chain",
    "ddim": "DDIM, 50 steps",
    "elbo": "exact bound",
    "features": "Inception features",
}
"""measure of a network -> its name in the table"""

OTHERS = {"peak": "matrix product", "startup": "start-up", "help": "--help"}

DIGITS = Size(
    "configs/digits.py",
    {},
    (8, 8, 1),
    1500,
    {
        "train": (128,),
        "forward": (128,),
        "chain": (1, 16, 128),
        "ddim": (1, 16, 128),
        "elbo": (128,),
        "features": (16,),
    },
    {
        **{"train": (128, 1024), "forward": (128, 1024), "chain": (1, 16, 128, 1024), "ddim": (1, 16, 128, 1024)},
        **{"elbo": (1024,), "features": (256,)},
    },
)

CIFAR10 = Size(
    "configs/cifar10.py",
    {},
    (32, 32, 3),
    50_000,
    {"train": (8,), "forward": (8,), "chain": (1, 16), "ddim": (1, 16), "elbo": (8,), "features": ()},
    {
        **{"train": (128, 512, 1024), "forward": (128, 1024), "chain": (1, 16, 256, 1024), "ddim": (1, 16, 256, 1024)},
        **{"elbo": (512,), "features": (512,)},
    },
)

TINY = {"net.channels": 8, "net.multipliers": (1, 2), "net.blocks": 1, "optim.warmup_steps": 2}
DRY: Batches = {"train": (4,), "forward": (4,), "chain": (1, 4), "ddim": (4,), "elbo": (4,), "features": (2,)}

SIZES = {"digits": DIGITS, "cifar10": CIFAR10}
QUICK = {
    name: size._replace(changes={**TINY, "net.attention": (size.shape[0] // 2,)}, images=64, cpu=DRY, accelerator=DRY)
    for name, size in SIZES.items()
}
"""A dry run: networks that compile in seconds. Its figures mean nothing."""

QUICK_ENV = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
"""Compiles quickly, without optimisation."""

PACE, QUICK_PACE = Pace(7, 1.5), Pace(2, 0.01)
