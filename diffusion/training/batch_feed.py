"""Batches for the training step: gathered on the device from resident pixels, or streamed from the host.

Either way row i of step s is stream position s * batch_size + i: a batch is a pure function of (seed, step). With
several processes each reads only the rows of its own devices; a resident set is stored on every device.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from diffusion.core.array_types import Array, Labels, Pixels
from diffusion.data import batch_order
from diffusion.data.dataset_interface import Source
from diffusion.distributed import global_arrays, sharding
from diffusion.training.step import Gather


class Feed(NamedTuple):
    """A source of training batches."""

    data: Any
    """Arrays passed unchanged to every compiled call: the resident data set, its images as rows, or nothing."""
    gather: Gather
    batches: Any
    """batches(first_step) -> iterator of per-step pytrees of host arrays; `stack` puts k of them on the devices."""
    mesh: Mesh

    def stack(self, steps: list[Any]) -> Any:
        """k per-step batches, of this process's rows, as one pytree of global arrays [k, batch, ...], rows split."""
        place = sharding.split_axis(self.mesh, 1)

        def put(*rows: np.ndarray) -> Array:
            own = np.stack(rows)
            batch = own.shape[1] // len(self.mesh.local_devices) * self.mesh.size
            return jax.make_array_from_process_local_data(place, own, (len(rows), batch, *own.shape[2:]))

        return jax.tree.map(put, *steps)


def fits(source: Source, limit_mb: int) -> bool:
    """Whether a data set can be stored on the device: it is in memory and has at most `limit_mb` MiB of pixels."""
    return source.arrays is not None and source.size * int(np.prod(source.shape)) <= limit_mb * 2**20


class Shapes(NamedTuple):
    """A training step's input by its shapes: all that the compiler needs of the data."""

    feed: Feed
    """Without batches; its data are ShapeDtypeStructs."""
    batch: Any
    """ShapeDtypeStructs of a dispatch of one step."""


def shapes(shape: tuple[int, ...], size: int, batch_size: int, mesh: Mesh, on_device: bool) -> Shapes:
    """The input for `size` images of this shape, resident on the device or streamed."""
    sharding.check_batch(batch_size, mesh)
    split, whole = sharding.split_axis(mesh, 1), sharding.replicated(mesh)
    like = jax.ShapeDtypeStruct
    if on_device:
        data = like((size, math.prod(shape)), np.uint8, sharding=whole), like((size,), np.int32, sharding=whole)
        return Shapes(Feed(data, partial(_take, shape), iter, mesh), like((1, batch_size), np.int32, sharding=split))
    rows = like((1, batch_size, *shape), np.uint8, sharding=split), like((1, batch_size), np.int32, sharding=split)
    return Shapes(Feed((), _pass, iter, mesh), rows)


def _take(shape: tuple[int, ...], data: Any, index: Array) -> tuple[Pixels, Labels]:
    """Images are rows of bytes until they are gathered: TPUs would transpose a set of small images in every step."""
    pixels, labels = data
    return pixels[index].reshape(-1, *shape), labels[index]


def _pass(data: Any, batch: tuple[Pixels, Labels]) -> tuple[Pixels, Labels]:  # noqa: ARG001
    return batch


def resident(source: Source, seed: int, batch_size: int, mesh: Mesh) -> Feed:
    """The whole set on every device as uint8; a step receives indices and gathers on the device."""
    assert source.arrays is not None, "checked by fits()"
    pixels, labels = source.arrays
    everywhere = partial(jax.make_array_from_process_local_data, sharding.replicated(mesh))
    data = everywhere(pixels.reshape(source.size, -1)), everywhere(labels)
    rows = _rows(mesh, batch_size)

    def batches(first_step: int) -> Iterator[np.ndarray]:
        for step in count(first_step):
            yield batch_order.indices(seed, step, batch_size, source.size)[rows].astype(np.int32)

    return Feed(data, partial(_take, source.shape), batches, mesh)


def streamed(source: Source, seed: int, batch_size: int, mesh: Mesh, threads: int) -> Feed:
    """Batches that worker threads read ahead of the steps; each host reads its own rows."""
    rows = _rows(mesh, batch_size)
    return Feed((), _pass, lambda step: batch_order.stream(source, seed, batch_size, step, rows, threads), mesh)


def _rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """This process's rows of a batch, in the mesh's own order of devices, however many each process has.

    Raises ValueError where the batch does not divide over the devices.
    """
    sharding.check_batch(batch_size, mesh)
    held = sharding.split_axis(mesh).addressable_devices_indices_map((batch_size,))
    return global_arrays.local_rows([index for index in held.values() if index is not None], batch_size)
