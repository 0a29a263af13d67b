"""Arrays and decisions among several processes. With one process all of this is nothing.

Programs for global arrays must be run by every process, in the same order. What a process alone knows, such as what
lies in a folder or whether its disk is full, must therefore not decide what is run: process 0 decides, or all together.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from diffusion.core.types import Array


def put(value: Any, place: NamedSharding) -> Array:
    """A global array of a value that every process has whole; each hands its devices their part."""
    if place.is_fully_addressable:
        return jax.device_put(value, place)
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        impl = jax.random.key_impl(value)
        return jax.random.wrap_key_data(put(jax.random.key_data(value), place), impl=impl)
    whole = np.asarray(value)
    return jax.make_array_from_callback(whole.shape, place, lambda index: whole[index])


def mine(tree: Any) -> Any:
    """Arrays that are the same on all devices, as this process's own: what is computed with them concerns no other."""
    return jax.tree.map(lambda x: x if x.is_fully_addressable else x.addressable_data(0), tree)


def rows(held: Iterable[tuple[slice, ...]], batch_size: int) -> np.ndarray:
    """The rows of a batch that a process holds, ascending, from the index that each of its devices has in it."""
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held]))


def anyone(flag: bool) -> bool:
    """Whether the flag is up in any process; to be asked by all of them."""
    return bool(np.any(everyones(np.int32(flag))))


def everyones(value: np.ndarray | np.generic) -> np.ndarray:
    """[processes, ...]: the value of each; to be asked by all of them."""
    if jax.process_count() == 1:
        return np.asarray(value)[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value))


def by_rows(run: Callable[..., Any], place: NamedSharding) -> Callable[..., Any]:
    """`run` jitted, its arguments after the first split over the devices by rows.

    With several processes they must be the same in all, and every process has the whole result.
    """
    everywhere = NamedSharding(place.mesh, PartitionSpec())
    alone = place.is_fully_addressable
    jitted = jax.jit(run) if alone else jax.jit(run, out_shardings=everywhere)

    def call(first: Any, *batch: Any) -> Any:
        found = jitted(first, *(put(b, place) for b in batch))
        return found if alone else mine(found)

    return call
