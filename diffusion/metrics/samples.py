"""Sets of samples: image i depends on (seed, i) alone."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.types import Array, Image, Keys, Labels, Pixels
from diffusion.data.transforms import to_pixels
from diffusion.metrics.likelihood import padded
from diffusion.sampling.loop import image_keys


def draw(
    sample: Callable[[Keys, Labels], Image],
    n: int,
    batch_size: int,
    seed: int,
    classes: int | tuple[int, ...] = 0,
    first: int = 0,
    truncate: bool = False,
) -> Iterator[np.ndarray]:
    """Images first..n-1 of a seed as uint8 batches, each yielded as it is done.

    `sample` is jitted by the caller for `batch_size` keys; a last short batch is filled up and cut. Class-conditional
    models (classes > 0) get label i mod classes, or with a tuple the labels in it in turn. Levels are rounded, or with
    `truncate` cut as in the original code.
    """
    for pixels, _ in checked(sample, n, batch_size, seed, classes, first, truncate):
        yield pixels


def checked(
    sample: Callable[[Keys, Labels], Image],
    n: int,
    batch_size: int,
    seed: int,
    classes: int | tuple[int, ...] = 0,
    first: int = 0,
    truncate: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `draw`; beside each batch, bool [n], which of its images are finite: the pixels of others mean nothing."""
    for part in padded(np.arange(first, n), batch_size):
        images = sample(image_keys(seed, jnp.asarray(part)), jnp.asarray(labels(part, classes)))
        pixels, finite = jax.device_get(_stored(images, truncate))
        known = len(np.unique(part))
        yield np.asarray(pixels)[:known], np.asarray(finite)[:known]


def labels(index: np.ndarray, classes: int | tuple[int, ...]) -> np.ndarray:
    """The labels that images of these indices are drawn with: i mod classes; zeros where there are no classes.

    A tuple stands for itself, in turn: (3, 5) for 3, 5, 3, 5, ...
    """
    told = np.asarray(classes) if isinstance(classes, tuple) else np.arange(max(classes, 1))
    return told[index % len(told)].astype(np.int32)


@partial(jax.jit, static_argnames="truncate")
def _stored(images: Image, truncate: bool) -> tuple[Pixels, Array]:
    """Pixels, and which images are finite; on the device, so that a quarter of the bytes leave it."""
    return to_pixels(images, truncate), jnp.isfinite(images).all(axis=tuple(range(1, images.ndim)))
