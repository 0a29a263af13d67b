"""Between stored pixels 0..255 and images in [-1, 1], and the one augmentation of the papers: a horizontal flip."""

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Image, OneKey, Pixels


def to_image(pixels: Pixels) -> Image:
    """x / 127.5 - 1 in float32: 0 -> -1, 255 -> 1. DDPM section 3.3; without dequantisation noise, as there.

    Computed as (2 x - 255) / 255, whose numerator is exact: a compiled x / 127.5 - 1 turns the division into a product
    and fuses the difference, which makes 255 a little more than 1. This way -1, 0 and 1 are met exactly, levels x and
    255 - x are opposite numbers, and the result is the same inside and outside jit.
    """
    return (2 * pixels.astype(jnp.float32) - 255) / 255


def to_pixels(image: Image, truncate: bool = False) -> Pixels:
    """The inverse of `to_image`: round((x + 1) 127.5), for any x.

    Values outside [-1, 1] are clipped first, because the cast of a float outside 0..255 to uint8 is undefined.
    truncate: floor instead of rounding, as the original code, improved-diffusion and score_sde store their samples
    (half a level darker on average, which a FID notices). NaN has no level; it becomes 0.
    """
    levels = (jnp.clip(jnp.nan_to_num(image.astype(jnp.float32), nan=-1.0), -1, 1) + 1) * 127.5
    return (jnp.floor(levels) if truncate else jnp.round(levels)).astype(jnp.uint8)


def random_flip(key: OneKey, images: Image | Pixels) -> Image | Pixels:
    """Each image mirrored left to right with probability 1/2, independently."""
    flip = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)
