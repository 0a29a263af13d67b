"""Drawing samples: image i depends on (seed, i) alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Array, Image, Keys, Labels, Pixels
from diffusion.data.transforms import to_pixels
from diffusion.metrics.mean_and_standard_error import padded
from diffusion.sampling.sampling_loop import image_keys

Sample = Callable[[Keys, Labels], Image]
"""Draws a batch; jitted by the caller."""

Batch = tuple[np.ndarray, np.ndarray]
"""Images uint8 [n, H, W, C], and bool [n]: which of them were finite before they became pixels."""


def draw(sample: Sample, n: int, batch_size: int, seed: int, classes: int | tuple[int, ...] = 0) -> np.ndarray:
    """Images 0..n-1 of a seed, uint8 [n, H, W, C]; see `batches`."""
    return joined(list(batches(sample, n, batch_size, seed, classes)))[0]


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches as one."""
    pixels, finite = map(np.concatenate, zip(*parts, strict=True))
    return pixels, finite


def batches(
    sample: Sample,
    n: int,
    batch_size: int,
    seed: int,
    classes: int | tuple[int, ...] = 0,
    *,
    first: int = 0,
    truncate: bool = False,
) -> Iterator[Batch]:
    """Images first..n-1 of a seed in batches, each yielded once it is done.

    `sample` gets `batch_size` keys; a last short batch is filled up and cut. Class-conditional models (classes > 0) get
    label i mod classes, or with a tuple the labels in it in turn. Levels are rounded, or with `truncate` cut as in the
    original code. The pixels of images that are not finite mean nothing.
    """
    for part in padded(np.arange(first, n), batch_size):
        images = sample(image_keys(seed, jnp.asarray(part)), jnp.asarray(labels(part, classes)))
        pixels, finite = jax.device_get(_stored(images, truncate))
        count = len(np.unique(part))
        yield np.asarray(pixels)[:count], np.asarray(finite)[:count]


def labels(index: np.ndarray, classes: int | tuple[int, ...]) -> np.ndarray:
    """The labels that images of these indices are drawn with: i mod classes; zeros where there are no classes.

    A tuple stands for itself, in turn: (3, 5) for 3, 5, 3, 5, ...
    """
    cycle = np.asarray(classes) if isinstance(classes, tuple) else np.arange(max(classes, 1))
    return cycle[index % len(cycle)].astype(np.int32)


@partial(jax.jit, static_argnames="truncate")
def _stored(images: Image, truncate: bool) -> tuple[Pixels, Array]:
    """Pixels, and which images are finite; on the device, so that a quarter of the bytes leave it."""
    return to_pixels(images, truncate), jnp.isfinite(images).all(axis=tuple(range(1, images.ndim)))
