"""Batches for the training step: gathered on the device from resident pixels, or streamed from the host.

Either way row i of step s is stream position s * batch_size + i: a batch is a pure function of (seed, step).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from diffusion.data import pipeline
from diffusion.data.source import Source
from diffusion.training import sharding
from diffusion.training.step import Gather
from diffusion.types import Array, Labels, Pixels


class Feed(NamedTuple):
    """Where batches come from."""

    data: Any
    """Arrays passed to every dispatch unchanged: the resident data set, or nothing."""
    gather: Gather
    batches: Any
    """batches(first_step) -> iterator of per-step pytrees of host arrays; `stack` puts k of them on the devices."""
    mesh: Mesh

    def stack(self, steps: list[Any]) -> Any:
        """k per-step batches as one pytree of global arrays [k, batch, ...], rows split over the devices."""
        place = sharding.split_axis(self.mesh, 1)

        def put(*rows: np.ndarray) -> Array:
            return jax.make_array_from_process_local_data(place, np.stack(rows))

        return jax.tree.map(put, *steps)


def fits(source: Source, limit_mb: int) -> bool:
    """Whether a data set can live on the device: in memory already, and within `limit_mb` MiB of pixels."""
    return source.arrays is not None and source.size * int(np.prod(source.shape)) <= limit_mb * 2**20


def resident(source: Source, seed: int, batch_size: int, mesh: Mesh) -> Feed:
    """The whole set on every device as uint8; a step receives indices alone, and gathers on the device."""
    assert source.arrays is not None, "checked by fits()"
    data = jax.device_put(source.arrays, sharding.replicated(mesh))

    def gather(data: Any, index: Array) -> tuple[Pixels, Labels]:
        pixels, labels = data
        return pixels[index], labels[index]

    def batches(first_step: int) -> Iterator[np.ndarray]:
        step, rows = first_step, _local_rows(batch_size)
        while True:
            yield pipeline.indices(seed, step, batch_size, source.size)[rows].astype(np.int32)
            step += 1

    return Feed(data, gather, batches, mesh)


def streamed(source: Source, seed: int, batch_size: int, mesh: Mesh, threads: int) -> Feed:
    """Batches read by worker threads ahead of the step that needs them; each host reads its own rows."""

    def gather(data: Any, batch: tuple[Pixels, Labels]) -> tuple[Pixels, Labels]:  # noqa: ARG001
        return batch

    def batches(first_step: int) -> Iterator[Any]:
        return pipeline.stream(source, seed, batch_size, first_step, _local_rows(batch_size), threads)

    return Feed((), gather, batches, mesh)


def _local_rows(batch_size: int) -> slice:
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)
