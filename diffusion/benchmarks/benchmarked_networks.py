"""The networks that are measured, their batches, and the measures."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

PEAK, TRAIN, FORWARD = "peak", "train", "forward"
MEASURES = {
    TRAIN: "training step",
    FORWARD: "forward",
    "chain": "1000-step chain",
    "ddim": "DDIM, 50 steps",
    "elbo": "exact bound",
    "features": "Inception features",
}
"""Measure of a network -> its name in the table. PEAK, square matrix products, is measured before them."""
WITHOUT_BASELINE = frozenset({"elbo", "features"})

Batches = dict[str, tuple[int, ...]]
"""Measure -> batches."""


def batches(
    network: tuple[int, ...], chain: tuple[int, ...], elbo: tuple[int, ...], features: tuple[int, ...]
) -> Batches:
    """The batches of every measure; `network`: of training steps and forward passes."""
    return dict(zip(MEASURES, (network, network, chain, chain, elbo, features), strict=True))


class Size(NamedTuple):
    """A network and its data."""

    config: str
    shape: tuple[int, int, int]
    images: int
    """Images of the data set."""
    cpu: Batches
    accelerator: Batches
    changes: Mapping[str, Any] = MappingProxyType({})
    """Keys set over the config."""

    def request(self) -> dict[str, Any]:
        """What a workload is made from, without its measure and batch."""
        return {"config": self.config, "changes": dict(self.changes), "shape": self.shape, "images": self.images}


SIZES = {
    "digits": Size(
        "configs/digits.py",
        (8, 8, 1),
        1500,
        batches((128,), (1, 16, 128), (128,), (16,)),
        batches((128, 1024), (1, 16, 128, 1024), (1024,), (256,)),
        {"net.channels": 32},
    ),
    "cifar10": Size(
        "configs/cifar10.py",
        (32, 32, 3),
        50_000,
        batches((8,), (1, 16), (8,), ()),
        batches((128, 512, 1024), (1, 16, 256, 1024), (512,), (512,)),
    ),
}


def quick(size: Size) -> Size:
    """A network that compiles in seconds, for a dry run."""
    changes = {"net.channels": 8, "net.multipliers": (1, 2), "net.blocks": 1, "optim.warmup_steps": 2}
    few = batches((4,), (1, 4), (4,), (2,))
    changes["net.attention"] = (size.shape[0] // 2,)
    return size._replace(changes=changes, images=64, cpu=few, accelerator=few)


QUICK_REQUEST = {"product": 256, "features": 75, "modes": ("eager",)}
"""Of a dry run: rows of the matrix product, height of the images of Inception, ways to run PyTorch."""
QUICK_ENV = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}
"""Compiles quickly, without optimisation."""
