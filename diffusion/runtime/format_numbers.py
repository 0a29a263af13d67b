"""Numbers in reports: counts, sizes, durations, quantities, and a warning about a long run."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

LONG_SECONDS = 14 * 24 * 3600.0
"""A longer run is warned about."""


def count(tree: object) -> int:
    """Number of scalars in a tree of (possibly abstract) arrays."""
    import jax

    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def size(tree: object) -> int:
    """Bytes of a tree of (possibly abstract) arrays; random keys are not counted."""
    import jax

    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf.dtype, "itemsize")]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def duration(seconds: float) -> str:
    """A duration in its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    total = round(seconds)
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    for (name, length), (next_name, next_length) in pairwise(units):
        if total >= length:
            rest = total % length // next_length
            return f"{total // length} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{total} s"


def quantity(value: float | int, unit: str) -> str:
    """A number with a decimal prefix: 12.4 GFLOP."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def describe_devices(devices: Sequence[Any]) -> str:
    """The devices of a run, such as '1 x cpu' or '8 x NVIDIA H200'."""
    kinds = {d.device_kind for d in devices}
    return f"{len(devices)} x {', '.join(sorted(kinds))}"


FASTER = {
    "cpu": ["run it on a GPU or TPU (install jax for it: pip install 'jax[cuda13]' or 'jax[tpu]'), or"],
    "gpu": ["run it on several GPUs (all that are visible are used), or with --config.net.dtype=bfloat16, or"],
}
"""Advice for a long run, by platform."""


def too_long(seconds: float, platform: str) -> list[str]:
    """The warning about a run that would take `seconds`, in lines; none below LONG_SECONDS."""
    if seconds < LONG_SECONDS:
        return []
    return [
        f"WARNING     at this speed the run takes {duration(seconds)} on this device. Instead,",
        *(f"              {line}" for line in FASTER.get(platform, [])),
        "              try --config=configs/digits.py (minutes on a CPU) or cifar10_small.py (one modest GPU), or",
        "              lower --config.train.steps, --config.train.batch_size or --config.net.channels.",
    ]
