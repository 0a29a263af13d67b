"""Arrays over the devices of several processes: whole in each, a process's rows, and a function split by rows.

Every process must run the same programs for global arrays in the same order. With a single process these functions
change nothing.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec


def whole(tree: Any) -> Any:
    """Copies of the arrays of a tree as NumPy arrays in every process, of random keys their data. All must call it."""

    def gathered(x: Any) -> np.ndarray:
        x = jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        if not isinstance(x, jax.Array) or x.is_fully_replicated or x.is_fully_addressable:
            return np.array(x)  # a copy: on CPUs the buffer, which a later step may take, would be shared
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(gathered, tree)


def local_rows(indices: Iterable[tuple[slice, ...]], batch_size: int) -> np.ndarray:
    """The rows of a batch that a process holds, ascending. `indices`: the index of each of its devices in the batch."""
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in indices]))


class ByRows:
    """A function, jitted, whose arguments after the first are split over the devices by rows.

    With several processes the arguments must be equal in all, and computing with the result involves no other process.
    """

    def __init__(self, function: Callable[..., Any], sharding: NamedSharding):
        out = None if sharding.is_fully_addressable else NamedSharding(sharding.mesh, PartitionSpec())
        self.jitted, self._sharding = jax.jit(function, out_shardings=out), sharding

    def __call__(self, first: Any, *batch: Any) -> Any:
        """The result; with several processes the whole of it as this process's own array."""
        parts = (jax.make_array_from_process_local_data(self._sharding, b, b.shape) for b in batch)
        result = self.jitted(first, *parts)
        if self._sharding.is_fully_addressable:
            return result
        return jax.tree.map(lambda x: x.addressable_data(0), result)

    def compile(self, first: Any, *batch: Any) -> Any:
        """The program for arguments of these shapes, which may be ShapeDtypeStructs."""
        like = [jax.ShapeDtypeStruct(b.shape, b.dtype, sharding=self._sharding) for b in batch]
        return self.jitted.lower(first, *like).compile()
