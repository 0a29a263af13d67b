"""All published tables."""

from collections.abc import Sequence
from functools import cache

from diffusion.config.misspelt_names import suggestion
from diffusion.published import ddim_tables, ddpm_tables, improved_ddpm_tables
from diffusion.published.table_types import Table


@cache
def tables() -> tuple[Table, ...]:
    """Every table, in the order in which they are printed."""
    return (
        ddpm_tables.table_1(),
        ddpm_tables.table_2(),
        ddpm_tables.table_3(),
        ddpm_tables.table_4(),
        ddpm_tables.split(),
        improved_ddpm_tables.cifar10(),
        improved_ddpm_tables.imagenet64(),
        ddim_tables.cifar10(),
        ddim_tables.celeba64(),
    )


def choose(names: Sequence[str]) -> tuple[Table, ...]:
    """The tables of these names, all of them for none. Raises ValueError for a name that is none."""
    known = {table.name: table for table in tables()}
    for name in names:
        if name not in known:
            raise ValueError(f"--table={name}: no such table; {suggestion(name, known)}")
    return tuple(known[name] for name in names or known)
