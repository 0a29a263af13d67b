"""Augmentation of training images: flips, or geometric transforms whose parameters the network receives.

A network that receives them does not draw transformed images: it is given zeros at sampling, which stand for an image
as it is. Karras et al. 2022, appendix F.2, after Karras et al. 2020 (training GANs with limited data).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from diffusion.core.array_types import Array, Condition, Image, OneKey, PerExample
from diffusion.data.transforms import random_flip

Augment = Callable[[OneKey, Image], tuple[Image, Condition | None]]
"""augment(key, images): the images to train on, and what the network receives of it; None: nothing."""

SCALE, STRETCH, SHIFT = 0.2, 0.2, 0.125
"""Published spreads: logarithms to base 2 of both scalings, and the share of the image that it moves by."""
OBLIQUE = 0.5
"""Probability that a stretched image is stretched along an oblique axis."""


class Transform(NamedTuple):
    """A transform of each image, in the order of the fields; where all are 0, the image stays as it is."""

    x_flip: PerExample
    """1: mirrored left to right."""
    y_flip: PerExample
    """1: mirrored top to bottom."""
    scale: PerExample
    """Enlarged 2^(0.2 scale) times about its centre."""
    angle: PerExample
    """Turned counterclockwise, in radians."""
    stretch: PerExample
    """Enlarged 2^(0.2 stretch) times along an axis, and reduced as much across it."""
    axis: PerExample
    """The angle of that axis, counterclockwise from the horizontal."""
    right: PerExample
    """Moved right, in eighths of its width."""
    down: PerExample
    """Moved down, in eighths of its height."""


def unchanged(key: OneKey, images: Image) -> tuple[Image, None]:  # noqa: ARG001
    """The images as they are."""
    return images, None


def flipped(key: OneKey, images: Image) -> tuple[Image, None]:
    """Each image mirrored left to right with probability 1/2, of which the network learns nothing."""
    return random_flip(key, images), None


def geometric(key: OneKey, images: Image, p: float, p_flip: float) -> tuple[Image, Condition]:
    """Each image transformed as drawn, and the condition vector of its transform. Karras et al. 2022, appendix F.2."""
    transform = draw(key, images.shape[0], p, p_flip)
    return warp(transform, images), condition(transform)


def draw(key: OneKey, n: int, p: float, p_flip: float) -> Transform:
    """n transforms. Each part is drawn with probability p, the flip from left to right with p_flip, and is else 0.

    Flips are 0 or 1 alike, scale, stretch, right and down standard normal, angles uniform. p_flip = 1 is the published
    choice where every image is flipped half of the time; p is 0.12 there.
    """
    coins, flips, normals, angles = jax.random.split(key, 4)
    share = jnp.array([p_flip, p, p, p, p, OBLIQUE, p], jnp.float32)
    x, y, scaled, turned, stretched, oblique, moved = jax.random.uniform(coins, (7, n)) < share[:, None]
    x_flip, y_flip = jax.random.bernoulli(flips, 0.5, (2, n)).astype(jnp.float32)
    scale, stretch, right, down = jax.random.normal(normals, (4, n))
    angle, axis = jax.random.uniform(angles, (2, n), minval=-jnp.pi, maxval=jnp.pi)
    applied = (x, y, scaled, turned, stretched, stretched & oblique, moved, moved)
    values = (x_flip, y_flip, scale, angle, stretch, axis, right, down)
    return Transform(*(jnp.where(used, value, 0.0) for used, value in zip(applied, values, strict=True)))


def condition(transform: Transform) -> Condition:
    """What the network receives of a transform, 9 numbers: all 0 where the image stays as it is, and only there."""
    x_flip, y_flip, scale, angle, stretch, axis, right, down = transform
    turn = (jnp.cos(angle) - 1, jnp.sin(angle))
    along = (stretch * jnp.cos(axis), stretch * jnp.sin(axis))
    return jnp.stack([x_flip, y_flip, scale, *turn, *along, right, down], axis=1)


def source(transform: Transform, height: int, width: int) -> tuple[Array, Array]:
    """The place (row, column) in the image that each pixel of the transformed image shows: [B, H, W] each, in pixels.

    The steps of the transform undone from the last to the first, about the centre. Numbers by pixel instead of products
    of matrices: float32 on every device, and exact where nothing is done.
    """
    x_flip, y_flip, scale, angle, stretch, axis, right, down = (part[:, None, None] for part in transform)
    middle = (width - 1) / 2, (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, None, :] - middle[0] - SHIFT * width * right
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None] - middle[1] - SHIFT * height * down
    x, y = _clockwise(axis, x, y)
    x, y = x * jnp.exp2(-STRETCH * stretch), y * jnp.exp2(STRETCH * stretch)
    x, y = _clockwise(angle - axis, x, y)
    shrink = jnp.exp2(-SCALE * scale)
    return y * shrink * (1 - 2 * y_flip) + middle[1], x * shrink * (1 - 2 * x_flip) + middle[0]


def warp(transform: Transform, images: Image) -> Image:
    """The transformed images, by bilinear interpolation; beyond its edges an image continues as its mirror image."""
    rows, columns = source(transform, *images.shape[1:3])

    def one(image: Array, row: Array, column: Array) -> Array:
        channels = [
            map_coordinates(channel, (row, column), order=1, mode="mirror") for channel in jnp.moveaxis(image, -1, 0)
        ]
        return jnp.stack(channels, axis=-1)

    return jax.vmap(one)(images, rows, columns)


def _clockwise(angle: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """A point turned clockwise as seen, y pointing down."""
    return x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)
