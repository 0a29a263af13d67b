"""A user's images edited by the trained network of a run: inpainting, variations, interpolation, DDIM round trips.

Draw j of image i depends on the seed, the image, i and j alone. Arguments give steps as fractions of T. Inpainting and
variations use the config's guidance; DDIM latents are unguided.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Image, Keys, Labels, Mask, PerExample
from diffusion.data.transforms import to_image, to_pixels
from diffusion.data.user_images import LabelledImages
from diffusion.figures.figure_data.run_sampler import Pixels, RunSampler
from diffusion.sampling import ddim_latents, editing
from diffusion.sampling import inpainting as repaint

LATENT_RANGE = 3.0
"""Latents are shown from black to white over this many standard deviations on either side of 0."""


def inpaint(
    run_sampler: RunSampler, originals: LabelledImages, known: np.ndarray, n: int, resamplings: int = 1, jump: int = 1
) -> Pixels:
    """[R, n, H, W, C]: n completions of each image, which keeps its pixels where `known`, bool [H, W], is true.

    Raises ValueError for a number of resamplings or a jump that the chain does not allow.
    """
    process, sampler = run_sampler.process, run_sampler.sampler
    repaint.check(process, resamplings, jump)
    labels, keys, images = _repeated(run_sampler, originals, n)
    masks = jnp.asarray(np.broadcast_to(known[..., None], images.shape))

    def edit(denoise: Any, keys: Keys, x: Image, known: Mask, resamplings: jax.Array) -> jax.Array:
        return to_pixels(repaint.inpaint(keys, process, sampler, denoise, x, known, resamplings, jump))

    run = _edited(run_sampler, edit)
    return _blocks(run([labels, keys, images, masks], resamplings), n)


def vary(
    run_sampler: RunSampler, originals: LabelledImages, n: int, fractions: Sequence[float]
) -> tuple[Pixels, list[int]]:
    """[R, S, n, H, W, C]: n variations of each image from each step; the steps of the chain that are nearest.

    Variation j has the same noise at all steps.
    """
    process, sampler = run_sampler.process, run_sampler.sampler
    run = _edited(
        run_sampler, lambda denoise, keys, x, t: to_pixels(editing.vary(keys, process, sampler, denoise, x, t))
    )
    rows, ts = _repeated(run_sampler, originals, n), run_sampler.steps(fractions, lowest=1)
    return np.stack([_blocks(run(rows, t), n) for t in ts], axis=1), run_sampler.full_chain_steps(ts)


def interpolate(
    run_sampler: RunSampler,
    first: LabelledImages,
    second: LabelledImages,
    lam: Sequence[float],
    fractions: Sequence[float],
) -> tuple[Pixels, list[int]]:
    """[S, R, L, H, W, C]: mixtures of x_t of each pair of images, denoised, for each step; the steps."""
    process, sampler = run_sampler.process, run_sampler.sampler

    def edit(denoise: Any, keys: Keys, x: Image, other: Image, lam: PerExample, t: jax.Array) -> jax.Array:
        mixed = editing.interpolate(keys, process, sampler, denoise, x, other, lam=lam, t=t)
        return to_pixels(mixed)

    pairs, labels, *args = _mixtures(first, second, lam)
    run, ts = _edited(run_sampler, edit), run_sampler.steps(fractions)
    mixtures = np.stack([_blocks(run([labels, run_sampler.keys(pairs), *args], t), len(lam)) for t in ts])
    return mixtures, run_sampler.full_chain_steps(ts)


def interpolate_latents(
    run_sampler: RunSampler, first: LabelledImages, second: LabelledImages, lam: Sequence[float]
) -> Pixels:
    """[R, L, H, W, C]: the DDIM decodings of mixtures of the two latents of each pair of images."""
    process = run_sampler.process
    run = _edited(
        run_sampler,
        lambda denoise, *args: to_pixels(ddim_latents.interpolate_latents(process, denoise, *args)),
        False,
    )
    _, *args = _mixtures(first, second, lam)
    return _blocks(run(args), len(lam))


def roundtrip(run_sampler: RunSampler, originals: LabelledImages) -> tuple[Pixels, Pixels, np.ndarray]:
    """[R, H, W, C] twice: x_T by DDIM inversion, as a picture, and the image decoded from it; errors [R].

    An error is the root mean squared error of the decoded image before rounding, in levels of 0..255.
    """
    process = run_sampler.process

    def edit(denoise: Any, x: Image) -> tuple[jax.Array, jax.Array, jax.Array]:
        x_T = ddim_latents.encode(process, denoise, x)
        decoded = ddim_latents.decode(process, denoise, x_T)
        error = jnp.sqrt(jnp.mean((decoded - x) ** 2, axis=range(1, x.ndim))) * 127.5
        return to_pixels(x_T * jnp.exp(-0.5 * process.prior_log_var) / LATENT_RANGE), to_pixels(decoded), error

    rows = [jnp.asarray(originals.labels), to_image(jnp.asarray(originals.pixels))]
    return _edited(run_sampler, edit, guided=False)(rows)


def _edited(run_sampler: RunSampler, edit: Callable[..., Any], guided: bool = True) -> Callable[..., Any]:
    """A function of ([labels, *rows], *scalars): edit(denoise, *rows, *scalars) in batches."""
    experiment = run_sampler.experiment
    return run_sampler.in_batches(
        lambda params, labels, *args: edit(experiment.denoise(params, labels, guided=guided), *args)
    )


def _repeated(run_sampler: RunSampler, originals: LabelledImages, n: int) -> tuple[Labels, Keys, Image]:
    """Labels, keys and images, each image n times."""
    rows, draws = np.divmod(np.arange(len(originals.pixels) * n), n)
    keys = jax.vmap(jax.random.fold_in)(run_sampler.keys(rows), jnp.asarray(draws))
    return jnp.asarray(originals.labels)[rows], keys, to_image(jnp.asarray(originals.pixels))[rows]


def _blocks(drawn: Pixels, n: int) -> Pixels:
    return drawn.reshape(-1, n, *drawn.shape[1:])


def _mixtures(
    first: LabelledImages, second: LabelledImages, lam: Sequence[float]
) -> tuple[np.ndarray, Labels, Image, Image, PerExample]:
    """Pair, label, both images and share of the second of each mixture: all of `lam` for each pair."""
    pairs = np.repeat(np.arange(len(first.pixels)), len(lam))
    shares = jnp.asarray(np.tile(np.asarray(lam, np.float32), len(first.pixels)))
    x, other = (to_image(jnp.asarray(images.pixels))[pairs] for images in (first, second))
    return pairs, jnp.asarray(first.labels)[pairs], x, other, shares
