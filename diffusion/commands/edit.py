"""Edits of a user's images by the network of a run: each makes a picture and the edited images.

Draw j of image i depends on the seed, the image, i and j alone. Inpainting, variations and mixtures of x_t use the
config's guidance; DDIM latents are unguided.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Image, Keys, Labels, Mask, PerExample
from diffusion.data import user_images
from diffusion.data.dataset_identity import label_number, listed
from diffusion.data.transforms import to_image, to_pixels
from diffusion.data.user_images import LabelledImages
from diffusion.figures import image_figures
from diffusion.figures.figure_data.run_sampler import Pixels, RunSampler
from diffusion.figures.image_figures import save_image
from diffusion.figures.loaded_run import Inputs
from diffusion.figures.style import SUFFIXES, save
from diffusion.sampling import ddim_latents, editing
from diffusion.sampling import inpainting as repaint

DRAWS, MIXTURES = 8, 11
"""Default numbers of draws of an image, and of mixtures of two."""
LATENT_RANGE = 3.0
"""Latents are shown from black to white over this many standard deviations on either side of 0."""

Edited = tuple[Any, Pixels]
"""A Figure, and the results of each image or pair in it: [R, n, H, W, C]."""


class Options(NamedTuple):
    """Flags of scripts/edit.py, by name."""

    image: Sequence[str] = ()
    other: Sequence[str] = ()
    held_out: Sequence[str] = ()
    fit: bool = False
    label: str | None = None
    mask: str | None = None
    t: Sequence[str] = ()
    resamplings: int = 10
    jump: int = 1


def run(kind: str | None, inputs: Inputs, options: Options, out: Path | None, separate: Path | None) -> Path:
    """Makes an edit of EDITS and returns the path of its picture, by default edits/<kind>.png of the run.

    `separate` is a folder that gets each result as a PNG, named by its row and column. Raises ValueError for flags,
    images and steps that do not go together or do not fit the run.
    """
    if kind is None:
        raise ValueError(f"--edit is required: {', '.join(EDITS)}; --help says what each does")
    out = out or inputs.folder / "edits" / f"{kind}.png"
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out={out}: a picture is written as {', '.join(SUFFIXES)}; name such a file")
    figure, images = EDITS[kind](inputs, options, *_images(inputs, options, kind in PAIRS))
    save(figure, out)
    if separate:
        for i, j in np.ndindex(images.shape[:2]):
            save_image(images[i, j], separate / f"{i:03d}_{j:03d}.png")
    return out


def _images(inputs: Inputs, options: Options, pairs: bool) -> list[LabelledImages]:
    """The images to edit, and for edits of pairs the other image of each."""
    config, names = inputs.run.config, inputs.run.class_names
    if bool(options.image) == bool(options.held_out):
        raise ValueError(
            "give images either as files, --image=a.png, or by their number among the held-out ones, --held_out=0"
        )
    if options.held_out:
        numbers = [int(text) for text in options.held_out]
        if pairs and len(numbers) % 2:
            raise ValueError("this edit needs two images for each picture: --held_out=0,1")
        parts = [numbers[::2], numbers[1::2]] if pairs else [numbers]
        return [user_images.held_out(inputs.data.held_out, part) for part in parts]
    if pairs and len(options.image) != len(options.other):
        raise ValueError("this edit needs as many --other as --image: --image=a.png --other=b.png")
    if options.label is None and (config.net.class_conditional or config.sample.guidance > 0):
        raise ValueError(f"--label is required: the class of the images ({listed(names)}) is an input of this run")
    label = 0 if options.label is None else label_number(options.label, names)
    files = [options.image, options.other] if pairs else [options.image]
    shape, background = inputs.run.shape, config.data.background
    return [user_images.read_files(paths, shape, label, options.fit, background) for paths in files]


def _fractions(inputs: Inputs, options: Options) -> list[float]:
    """The steps of --t as fractions of T. Raises ValueError for one outside 1..T."""
    T, ts = inputs.run.config.diffusion.T, [int(text) for text in options.t]
    for t in ts:
        if not 1 <= t <= T:
            raise ValueError(f"--t={t}: a step of this run lies in 1..{T}")
    return [t / T for t in ts] or [0.5]


def _shares(inputs: Inputs) -> list[float]:
    """Shares of the other image in mixtures, from 0 to 1."""
    return np.linspace(0, 1, inputs.n or MIXTURES).round(3).tolist()


def _mask(inputs: Inputs, options: Options) -> np.ndarray:
    """Where pixels are known, bool [H, W]."""
    if options.mask is None:
        raise ValueError(
            f"--mask is required: a picture, white where to inpaint, or one of {', '.join(user_images.HIDDEN_PARTS)}"
        )
    return user_images.read_mask(options.mask, inputs.run.shape)


EDITS: dict[str, Callable[..., Edited]] = {
    "interpolate": lambda i, o, first, second: interpolate(
        i.image_sampler, first, second, _shares(i), _fractions(i, o)
    ),
    "latent": lambda i, _, first, second: interpolate_latents(i.image_sampler, first, second, _shares(i)),
    "inpaint": lambda i, o, images: inpaint(i.image_sampler, images, _mask(i, o), i.n or DRAWS, o.resamplings, o.jump),
    "vary": lambda i, o, images: vary(i.image_sampler, images, i.n or DRAWS, _fractions(i, o)),
    "roundtrip": lambda i, _, images: roundtrip(i.image_sampler, images),
}
"""Kind -> the edit of (inputs, options, images), and for those in PAIRS of the other image of each."""
PAIRS = ("interpolate", "latent")


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
    process, sampler = run_sampler.process, run_sampler.sampler

    def edit(denoise: Any, keys: Keys, x: Image, other: Image, lam: PerExample, t: jax.Array) -> jax.Array:
        return to_pixels(editing.interpolate(keys, process, sampler, denoise, x, other, lam=lam, t=t))

    pairs, labels, *args = _mixtures(first, second, lam)
    rows, ts = [labels, run_sampler.keys(pairs), *args], run_sampler.steps(fractions)
    run = _edited(run_sampler, edit)
    mixtures = np.stack([_blocks(run(rows, t), len(lam)) for t in ts], axis=1)
    mixtures = mixtures.reshape(-1, *mixtures.shape[2:])  # the steps of one pair below each other
    left, right = (images.pixels.repeat(len(ts), axis=0) for images in (first, second))
    headings = [f"t = {t}" for t in run_sampler.full_chain_steps(ts)] * len(first.pixels)
    return image_figures.interpolation(left, right, mixtures, lam, headings), mixtures


def interpolate_latents(
    run_sampler: RunSampler, first: LabelledImages, second: LabelledImages, lam: Sequence[float]
) -> Edited:
    """The DDIM decodings of mixtures of the latents of each pair of images. DDIM figure 6."""
    process = run_sampler.process

    def edit(denoise: Any, *args: Any) -> jax.Array:
        return to_pixels(ddim_latents.interpolate_latents(process, denoise, *args))

    _, *rows = _mixtures(first, second, lam)
    mixtures = _blocks(_edited(run_sampler, edit, guided=False)(rows), len(lam))
    return image_figures.interpolation(first.pixels, second.pixels, mixtures, lam), mixtures


def inpaint(
    run_sampler: RunSampler, images: LabelledImages, known: np.ndarray, n: int, resamplings: int, jump: int
) -> Edited:
    """n completions of each image, which keeps its pixels where `known`, bool [H, W], is true. RePaint, Algorithm 1.

    Raises ValueError for a number of resamplings or a jump that the chain does not allow.
    """
    process, sampler = run_sampler.process, run_sampler.sampler
    repaint.check(process, resamplings, jump)
    labels, keys, x_0 = _repeated(run_sampler, images, n)
    masks = jnp.asarray(np.broadcast_to(known[..., None], x_0.shape))

    def edit(denoise: Any, keys: Keys, x: Image, known: Mask, resamplings: jax.Array) -> jax.Array:
        return to_pixels(repaint.inpaint(keys, process, sampler, denoise, x, known, resamplings, jump))

    completed = _blocks(_edited(run_sampler, edit)([labels, keys, x_0, masks], resamplings), n)
    return image_figures.inpainting(images.pixels, known, completed), completed


def vary(run_sampler: RunSampler, images: LabelledImages, n: int, fractions: Sequence[float]) -> Edited:
    """n variations of each image from each step, a fraction of T. SDEdit, Algorithm 1.

    Variation j has the same noise at all steps.
    """
    process, sampler = run_sampler.process, run_sampler.sampler

    def edit(denoise: Any, keys: Keys, x: Image, t: jax.Array) -> jax.Array:
        return to_pixels(editing.vary(keys, process, sampler, denoise, x, t))

    run, rows = _edited(run_sampler, edit), _repeated(run_sampler, images, n)
    ts = run_sampler.steps(fractions, lowest=1)
    varied = np.stack([_blocks(run(rows, t), n) for t in ts], axis=1)
    figure = image_figures.variations(images.pixels, varied, run_sampler.full_chain_steps(ts))
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
    return image_figures.roundtrip(images.pixels, latents, decoded), decoded[:, None]


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
