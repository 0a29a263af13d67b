"""All published tables."""

from collections.abc import Sequence
from functools import cache

from diffusion.config.key import closest_name
from diffusion.published import ddim, ddpm, improved_ddpm
from diffusion.published.published_table import Table


@cache
def tables() -> tuple[Table, ...]:
    """Every table, in the order in which they are printed."""
    return (
        ddpm.table_1(),
        ddpm.table_2(),
        ddpm.table_3(),
        ddpm.table_4(),
        ddpm.split(),
        improved_ddpm.cifar10(),
        improved_ddpm.imagenet64(),
        ddim.cifar10(),
        ddim.celeba64(),
    )


def choose(names: Sequence[str]) -> tuple[Table, ...]:
    """The tables of these names, all of them for none. Raises ValueError for a name that is none."""
    known = {table.name: table for table in tables()}
    for name in names:
        if name not in known:
            best = closest_name(name, known)
            hint = f"did you mean {best}?" if best else f"there are {', '.join(known)}"
            raise ValueError(f"--table={name}: no such table; {hint}")
    return tuple(known[name] for name in names or known)
