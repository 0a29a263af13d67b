"""Numbers in reports: counts, sizes, durations, quantities."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


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
    """A number in three digits with a decimal prefix: 12.4 GFLOP, 870 us."""
    for exponent, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "u")):
        if value >= 10.0**exponent:
            return f"{value / 10.0**exponent:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def rate(images_per_second: float) -> str:
    """Three digits without an exponent: 71.7 images/s, 1,330 images/s."""
    return f"{float(f'{images_per_second:.3g}'):,g} images/s"


def describe_devices(devices: Sequence[Any]) -> str:
    """The devices of a run, such as '1 x cpu' or '8 x NVIDIA H200'."""
    kinds = {d.device_kind for d in devices}
    return f"{len(devices)} x {', '.join(sorted(kinds))}"
