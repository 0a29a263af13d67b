"""Given images edited by the network of a run: arrays for diffusion/figures/.

Draw j of image i depends on the seed, the image, i and j alone. Steps are given as fractions of T.
What is drawn is guided as samples are; latents are those of the model as it is.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.types import Array, Image, Keys, Labels, Mask, PerExample
from diffusion.data.transforms import to_image, to_pixels
from diffusion.figures.arrays.network import Gallery, Pixels
from diffusion.figures.arrays.user_images import Given
from diffusion.sampling import editing, inpainting, inversion, latents
from diffusion.training.state import Params

SHOWN = 3.0
"""Latents are shown from -3 to 3 of their standard deviations, black to white."""


def inpaint(gallery: Gallery, given: Given, known: np.ndarray, n: int, resamplings: int = 1, jump: int = 1) -> Pixels:
    """[R, n, H, W, C]: n completions of each image, which is kept where `known`, bool [H, W].

    Raises ValueError for resamplings or a jump that this chain cannot take.
    """
    process, sampler = gallery.process, gallery.sampler
    mask = np.broadcast_to(known[..., None], given.pixels.shape[1:])

    def draw(params: Params, keys: Keys, x: Image, known: Mask, labels: Labels, resamplings: Array) -> Array:
        denoise = gallery.ours.denoise(params, labels, guided=True)
        return to_pixels(inpainting.inpaint(keys, process, sampler, denoise, x, known, resamplings, jump))

    inpainting.check(process, resamplings, jump)
    keys, images, labels = _rows(gallery, given, n)
    masks = jnp.asarray(np.broadcast_to(mask, images.shape))
    return _blocks(gallery.compiled(draw)([keys, images, masks, labels], resamplings), n)


def vary(gallery: Gallery, given: Given, n: int, fractions: Sequence[float]) -> tuple[Pixels, list[int]]:
    """[R, S, n, H, W, C]: n variations of each image from each step; the steps, those of the chain that are nearest.

    Variations of one number have the same noise at all steps.
    """
    process, sampler = gallery.process, gallery.sampler

    def draw(params: Params, keys: Keys, x: Image, labels: Labels, t: Array) -> Array:
        return to_pixels(editing.vary(keys, process, sampler, gallery.ours.denoise(params, labels, guided=True), x, t))

    run, rows = gallery.compiled(draw), _rows(gallery, given, n)
    stops = gallery.steps(fractions, lowest=1)
    return np.stack([_blocks(run(rows, t), n) for t in stops], axis=1), gallery.base(stops)


def interpolate_latents(gallery: Gallery, first: Given, second: Given, lam: Sequence[float]) -> Pixels:
    """[R, L, H, W, C]: DDIM's decodings of the mixtures of two latents, those of each pair of images."""
    process, count = gallery.process, len(first.pixels)

    def draw(params: Params, x: Image, other: Image, lam: PerExample, labels: Labels) -> Array:
        denoise = gallery.ours.denoise(params, labels)
        return to_pixels(latents.interpolate_latents(process, denoise, x, other, lam))

    rows = np.repeat(np.arange(count), len(lam))
    shares = jnp.asarray(np.tile(np.asarray(lam, np.float32), count))
    images = [to_image(jnp.asarray(x.pixels))[rows] for x in (first, second)]
    return _blocks(gallery.compiled(draw)([*images, shares, jnp.asarray(first.labels)[rows]]), len(lam))


def roundtrip(gallery: Gallery, given: Given) -> tuple[Pixels, Pixels, np.ndarray]:
    """[R, H, W, C] twice: x_T by DDIM inversion, as a picture, and the image decoded from it; root mean squared errors.

    The errors [R] are those of decoded values in [-1, 1], before they are rounded, in levels of 0..255.
    """
    process = gallery.process

    def draw(params: Params, x: Image, labels: Labels) -> Any:
        denoise = gallery.ours.denoise(params, labels)
        x_T = inversion.encode(process, denoise, x)
        decoded = inversion.decode(process, denoise, x_T)
        error = jnp.sqrt(jnp.mean((decoded - x) ** 2, axis=range(1, x.ndim))) * 127.5
        return to_pixels(x_T * jnp.exp(-0.5 * process.prior_log_var) / SHOWN), to_pixels(decoded), error

    return gallery.compiled(draw)([to_image(jnp.asarray(given.pixels)), jnp.asarray(given.labels)])


def _rows(gallery: Gallery, given: Given, n: int) -> tuple[Keys, Image, Labels]:
    """Keys, images and labels with each image n times."""
    rows, draws = np.divmod(np.arange(len(given.pixels) * n), n)
    keys = jax.vmap(jax.random.fold_in)(gallery.keys(rows), jnp.asarray(draws))
    return keys, to_image(jnp.asarray(given.pixels))[rows], jnp.asarray(given.labels)[rows]


def _blocks(drawn: Pixels, n: int) -> Pixels:
    return drawn.reshape(-1, n, *drawn.shape[1:])
