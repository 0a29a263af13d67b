"""Which examples make up batch `step`: a pure function of (seed, step), whoever reads it and with however many threads.

The examples form one endless stream, epoch after epoch, each epoch a fresh permutation of the set; batch `step` is
positions step * batch_size .. (step + 1) * batch_size - 1 of that stream. So a batch may straddle two epochs, a set
may be smaller than a batch, and a resumed run needs no saved iterator. A set that lives on the device is gathered by
the same `indices`.
"""

import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from diffusion.data.dataset_interface import Source

Rows = slice | np.ndarray
"""Which rows of a batch: a range, or their numbers."""


@lru_cache(maxsize=4)  # Two epochs of a training stream that straddles them, and two of another stream beside it.
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    order = np.random.default_rng([seed, epoch]).permutation(n)
    order.flags.writeable = False
    return order


def indices(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Indices into a set of n examples that make up batch `step`, int64 [batch_size].

    Position p of the stream is permutation(seed, epoch = p // n)[p % n].
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, places = np.divmod(positions, n)
    parts = [_permutation(seed, int(epoch), n)[places[epochs == epoch]] for epoch in np.unique(epochs)]
    return np.concatenate(parts)


def stream(
    source: Source, seed: int, batch_size: int, start_step: int = 0, rows: Rows = slice(None), threads: int = 8
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(pixels, labels) of batches start_step, start_step + 1, ... without end, read ahead by Grain's worker threads.

    rows: the part of the global batch that this host reads, so that hosts read disjoint parts of the same batch.
    threads: up to this many batches are read at once and as many wait in host memory; 0 reads when asked, in the
    caller. An error of the reader is raised at the batch that it spoils.
    """
    import grain

    def read(step: int) -> tuple[np.ndarray, np.ndarray]:
        return source.read(indices(seed, step, batch_size, source.size)[rows])

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    batches = iter(grain.MapDataset.range(start_step, sys.maxsize).map(read).to_iter_dataset(options))
    try:
        yield from batches
    finally:
        batches.close()  # stops the threads when the consumer lets go
