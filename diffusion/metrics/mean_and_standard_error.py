"""Mean and standard error over a data set of numbers that each image has, such as the terms of its bound."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Array, Image, Keys, Labels
from diffusion.data.dataset_interface import Source
from diffusion.data.transforms import to_image
from diffusion.metrics import cache_on_disk
from diffusion.runtime.atomic_files import write_npz
from diffusion.sampling.sampling_loop import image_keys

SECONDS = 10.0
"""Time between two writes of a partial result: what a killed evaluation repeats at most, beside its current batch."""

Columns = Callable[[Keys, Image, Labels], Array]
"""(keys, x_0, labels) -> [n, K]: K numbers of each image; jitted by the caller."""


class Means(NamedTuple):
    """Mean and sum of squared deviations over images of K numbers that each image has; float64 [K].

    Memory does not grow with the number of images.
    """

    images: int
    mean: np.ndarray
    square: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """The standard error of the mean, sqrt(square / (n - 1) / n); NaN for a single image."""
        n = self.images
        return np.sqrt(self.square / (n - 1) / n) if n > 1 else np.full_like(self.square, np.nan)

    def merged(self, other: "Means") -> "Means":
        """The means over both sets of images together.

        Chan, Golub and LeVeque 1983: no squares of large numbers cancel.
        """
        n = self.images + other.images
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.images / n)
        return Means(n, mean, self.square + other.square + shift**2 * (self.images * other.images / n))


@jax.jit
def _reduced(columns: Array, real: Array) -> tuple[Array, Array]:
    """Mean and sum of squared deviations over the real rows of a batch; its other rows are padding.

    Computed on the device, so that K numbers leave it, and not K for each image.
    """
    rows = real[:, None]
    mean = jnp.where(rows, columns, 0).sum(axis=0) / real.sum(dtype=jnp.float32)
    return mean, jnp.where(rows, (columns - mean[None]) ** 2, 0).sum(axis=0)


def padded(indices: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """`indices` cut into batches of one size, the last filled up by repeating its last entry."""
    batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    return [np.pad(b, (0, batch_size - len(b)), mode="edge") for b in batches]


def measure(
    columns: Columns,
    source: Source,
    indices: Sequence[int] | np.ndarray,
    batch_size: int,
    seed: int,
    partial: Path | None = None,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> Means:
    """Means of `columns` over the images at `indices`, without augmentation.

    Image i uses fold_in(seed, i), so neither the batch size nor the number of devices changes the result, except for
    the rounding of sums. Every batch has one shape. With `partial`, a file whose name must stand for columns, images,
    indices and seed, an interrupted call resumes where it stopped; with the same batch size the result has the same
    bits. `progress` is called with the number of images done. Raises ValueError if there are no images.
    """
    index = np.asarray(indices, np.int64)
    if len(index) == 0:
        raise ValueError("a mean over images needs at least one image")
    saved = cache_on_disk.read(partial) if partial else {}
    means = Means(int(saved["images"]), saved["mean"], saved["square"]) if saved else None
    first, written = means.images if means else 0, time.monotonic()
    progress(first)
    try:
        for i, batch in enumerate(padded(index[first:], batch_size)):
            real = np.arange(batch_size) < len(index) - first - i * batch_size
            pixels, labels = source.read(batch)
            values = columns(image_keys(seed, jnp.asarray(batch)), to_image(jnp.asarray(pixels)), jnp.asarray(labels))
            mean, square = jax.device_get(_reduced(values, jnp.asarray(real)))
            new = Means(int(real.sum()), mean.astype(np.float64), square.astype(np.float64))
            means = means.merged(new) if means else new
            progress(means.images)
            if partial and time.monotonic() - written > SECONDS:
                write_npz(partial, means._asdict())
                written = time.monotonic()
    finally:
        if partial and means:
            write_npz(partial, means._asdict())
    assert means is not None
    return means
