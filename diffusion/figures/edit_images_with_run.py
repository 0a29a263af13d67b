"""Edits of images by the network of a run: each makes a picture and the edited images.

Draw j of image i depends on the seed, the image, i and j alone. Inpainting, variations and mixtures of x_t use the
config's guidance; DDIM latents are unguided.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Image, Keys, Labels, Mask, PerExample
from diffusion.data.transforms import to_image, to_pixels
from diffusion.data.user_images import LabelledImages
from diffusion.figures import progressive_and_edit_figures
from diffusion.figures.figure_data.samples_from_run import Pixels, RunSampler
from diffusion.sampling import ddim_latents, editing
from diffusion.sampling import inpainting as repaint

DRAWS, MIXTURES = 8, 11
"""Default numbers of draws of an image, and of mixtures of two."""
LATENT_RANGE = 3.0
"""Latents are shown from black to white over this many standard deviations on either side of 0."""

Edited = tuple[Any, Pixels]
"""A Figure, and the results of each image or pair in it: [R, n, H, W, C]."""


def shares(n: int | None = None) -> list[float]:
    """n shares of the second image in mixtures, from 0 to 1; by default MIXTURES."""
    return np.linspace(0, 1, n or MIXTURES).round(3).tolist()


def interpolate(
    run_sampler: RunSampler,
    first: LabelledImages,
    second: LabelledImages,
    lam: Sequence[float],
    fractions: Sequence[float],
) -> Edited:
    """Mixtures of x_t of each pair of images, denoised, a row for each step. DDPM figures 8 and 9.

    lam: shares of the second image; fractions: steps as fractions of T.
    """
    process, sampler = run_sampler.experiment.chain(grid=run_sampler.grid)

    def edit(denoise: Any, keys: Keys, x: Image, other: Image, lam: PerExample, t: jax.Array) -> jax.Array:
        return to_pixels(editing.interpolate(keys, process, sampler, denoise, x, other, lam=lam, t=t))

    pairs, labels, *args = _mixtures(first, second, lam)
    rows, ts = [labels, run_sampler.keys(pairs), *args], run_sampler.steps(fractions)
    run = _edited(run_sampler, edit)
    mixtures = np.stack([_blocks(run(rows, t), len(lam)) for t in ts], axis=1)
    mixtures = mixtures.reshape(-1, *mixtures.shape[2:])  # the steps of one pair below each other
    left, right = (images.pixels.repeat(len(ts), axis=0) for images in (first, second))
    headings = [f"t = {t}" for t in run_sampler.full_chain_steps(ts)] * len(first.pixels)
    return progressive_and_edit_figures.interpolation(left, right, mixtures, lam, headings), mixtures


def interpolate_latents(
    run_sampler: RunSampler, first: LabelledImages, second: LabelledImages, lam: Sequence[float]
) -> Edited:
    """The DDIM decodings of mixtures of the latents of each pair of images. DDIM figure 6."""
    process = run_sampler.process

    def edit(denoise: Any, *args: Any) -> jax.Array:
        return to_pixels(ddim_latents.interpolate_latents(process, denoise, *args))

    _, *rows = _mixtures(first, second, lam)
    mixtures = _blocks(_edited(run_sampler, edit, guided=False)(rows), len(lam))
    return progressive_and_edit_figures.interpolation(first.pixels, second.pixels, mixtures, lam), mixtures


def inpaint(
    run_sampler: RunSampler, images: LabelledImages, known: np.ndarray, n: int, resamplings: int, jump: int
) -> Edited:
    """n completions of each image, which keeps its pixels where `known`, bool [H, W], is true. RePaint, Algorithm 1.

    Raises ValueError for a number of resamplings or a jump that the chain does not allow.
    """
    process, sampler = run_sampler.experiment.chain(grid=run_sampler.grid)
    repaint.check(process, resamplings, jump)
    labels, keys, x_0 = _repeated(run_sampler, images, n)
    masks = jnp.asarray(np.broadcast_to(known[..., None], x_0.shape))

    def edit(denoise: Any, keys: Keys, x: Image, known: Mask, resamplings: jax.Array) -> jax.Array:
        return to_pixels(repaint.inpaint(keys, process, sampler, denoise, x, known, resamplings, jump))

    completed = _blocks(_edited(run_sampler, edit)([labels, keys, x_0, masks], resamplings), n)
    return progressive_and_edit_figures.inpainting(images.pixels, known, completed), completed


def vary(run_sampler: RunSampler, images: LabelledImages, n: int, fractions: Sequence[float]) -> Edited:
    """n variations of each image from each step, a fraction of T. SDEdit, Algorithm 1.

    Variation j has the same noise at all steps.
    """
    process, sampler = run_sampler.experiment.chain(grid=run_sampler.grid)

    def edit(denoise: Any, keys: Keys, x: Image, t: jax.Array) -> jax.Array:
        return to_pixels(editing.vary(keys, process, sampler, denoise, x, t))

    run, rows = _edited(run_sampler, edit), _repeated(run_sampler, images, n)
    ts = run_sampler.steps(fractions, lowest=1)
    varied = np.stack([_blocks(run(rows, t), n) for t in ts], axis=1)
    figure = progressive_and_edit_figures.variations(images.pixels, varied, run_sampler.full_chain_steps(ts))
    return figure, varied.reshape(len(varied), -1, *varied.shape[3:])


def roundtrip(run_sampler: RunSampler, images: LabelledImages) -> Edited:
    """x_T by DDIM inversion, and the image decoded from it. DDIM section 5.4."""
    process = run_sampler.process

    def edit(denoise: Any, x: Image) -> tuple[jax.Array, jax.Array]:
        x_T = ddim_latents.encode(process, denoise, x)
        shown = x_T * jnp.exp(-0.5 * process.prior_log_var) / LATENT_RANGE
        return to_pixels(shown), to_pixels(ddim_latents.decode(process, denoise, x_T))

    rows = [jnp.asarray(images.labels), to_image(jnp.asarray(images.pixels))]
    latents, decoded = _edited(run_sampler, edit, guided=False)(rows)
    return progressive_and_edit_figures.roundtrip(images.pixels, latents, decoded), decoded[:, None]


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
