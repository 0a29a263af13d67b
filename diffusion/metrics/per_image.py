"""One number for each image of a data set, image by image: taken up again where it was stopped."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.types import Image, Keys, Labels, PerExample
from diffusion.data.source import Source
from diffusion.data.transforms import to_image
from diffusion.metrics.likelihood import padded
from diffusion.metrics.partial_results import Kept
from diffusion.sampling.loop import image_keys


def per_image(
    measure: Callable[[Keys, Image, Labels], PerExample],
    source: Source,
    n: int,
    batch_size: int,
    seed: int,
    kept: Kept | None = None,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> np.ndarray:
    """float64 [n]: measure(keys, x_0, labels) of the first n images, without augmentation.

    Image i uses fold_in(seed, i), whatever the batch size and the devices. `measure` is jitted by the caller; every
    batch has one shape. `kept`, whose key must name all that the numbers depend on, holds those that are known.
    """
    saved = kept.load() if kept else {}
    found = saved["values"] if saved else np.zeros(0)
    progress(len(found))
    try:
        for part in padded(np.arange(len(found), n), batch_size):
            pixels, labels = source.read(part)
            keys = image_keys(seed, jnp.asarray(part))
            values = jax.device_get(measure(keys, to_image(jnp.asarray(pixels)), jnp.asarray(labels)))
            found = np.concatenate([found, values.astype(np.float64)])[:n]
            progress(len(found))
            if kept:
                kept.offer({"values": found})
    finally:
        if kept and len(found):
            kept.save({"values": found})
    return found
