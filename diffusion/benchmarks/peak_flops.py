"""The speed of matrix products on this machine, measured: the limit of every network."""

from typing import Any

import jax
import jax.numpy as jnp

from diffusion.benchmarks.worker import Workload

SIDE = {"cpu": 2048}
LARGE = 8192
"""Rows of a square product that keeps every core busy: by platform, and on accelerators."""


def product(dtype: Any, side: int = 0) -> Workload:
    """Square matrix products of `side` rows in a type. A unit is one product; its result is the next operand."""
    n = side or SIDE.get(jax.default_backend(), LARGE)
    matrix = jnp.full((n, n), 1.0 / n, dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    held = [matrix]

    def run(units: int) -> None:
        for _ in range(units):
            held[0] = multiply(held[0], matrix)
        jax.block_until_ready(held[0])

    return Workload(run, {"flop": 2.0 * n**3, "dtype": jnp.dtype(dtype).name, "side": n})
