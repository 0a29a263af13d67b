"""Sets of samples: image i depends on (seed, i) alone."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.data.transforms import to_pixels
from diffusion.evaluation.likelihood import padded
from diffusion.sampling.loop import image_keys
from diffusion.types import Image, Keys, Labels


def draw(
    sample: Callable[[Keys, Labels], Image],
    n: int,
    batch_size: int,
    seed: int,
    classes: int = 0,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Images first..n-1 of a seed as uint8 batches, each yielded as it is done.

    `sample` is jitted by the caller for `batch_size` keys; a last short batch is filled up and cut. Class-conditional
    models (classes > 0) get label i mod classes.
    """
    for part in padded(np.arange(first, n), batch_size):
        labels = jnp.asarray(part % classes if classes else np.zeros_like(part), jnp.int32)
        images = jax.device_get(sample(image_keys(seed, jnp.asarray(part)), labels))
        pixels = np.asarray(to_pixels(jnp.asarray(images)))
        yield pixels[: len(np.unique(part))]
