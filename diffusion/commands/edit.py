"""Edits of a user's images by the network of a run: each makes a picture and the edited images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data import user_images
from diffusion.data.dataset_identity import label_number, listed
from diffusion.data.user_images import LabelledImages
from diffusion.figures import image_figures
from diffusion.figures.figure_data import edits
from diffusion.figures.image_grid import save_image
from diffusion.figures.loaded_run import Inputs
from diffusion.figures.style import SUFFIXES, save

DRAWS, MIXTURES = 8, 11
"""Default numbers of draws of an image, and of mixtures of two."""

Edited = tuple[Any, np.ndarray]
"""A Figure, and the results of each image or pair in it: uint8 [R, n, H, W, C]."""


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


def interpolate(inputs: Inputs, options: Options, first: LabelledImages, second: LabelledImages) -> Edited:
    """Mixtures of x_t of two images, denoised. DDPM figures 8 and 9."""
    lam = _shares(inputs)
    mixtures, ts = edits.interpolate(inputs.image_sampler, first, second, lam, _fractions(inputs, options))
    mixtures = mixtures.swapaxes(0, 1).reshape(-1, *mixtures.shape[2:])  # the steps of one pair below each other
    left, right = (x.pixels.repeat(len(ts), axis=0) for x in (first, second))
    rows = [f"t = {t}" for t in ts] * len(first.pixels)
    return image_figures.interpolation(left, right, mixtures, lam, rows), mixtures


def latent(inputs: Inputs, _: Options, first: LabelledImages, second: LabelledImages) -> Edited:
    """Mixtures of the DDIM latents of two images. DDIM figure 6."""
    lam = _shares(inputs)
    mixtures = edits.interpolate_latents(inputs.image_sampler, first, second, lam)
    return image_figures.interpolation(first.pixels, second.pixels, mixtures, lam), mixtures


def inpaint(inputs: Inputs, options: Options, images: LabelledImages) -> Edited:
    """Completions of the hidden part of images. RePaint, Algorithm 1."""
    if options.mask is None:
        raise ValueError(
            f"--mask is required: a picture, white where to inpaint, or one of {', '.join(user_images.HIDDEN_PARTS)}"
        )
    known, n = user_images.read_mask(options.mask, inputs.run.shape), inputs.count(DRAWS)
    completed = edits.inpaint(inputs.image_sampler, images, known, n, options.resamplings, options.jump)
    return image_figures.inpainting(images.pixels, known, completed), completed


def vary(inputs: Inputs, options: Options, images: LabelledImages) -> Edited:
    """Images noised up to step t and denoised. SDEdit, Algorithm 1."""
    varied, ts = edits.vary(inputs.image_sampler, images, inputs.count(DRAWS), _fractions(inputs, options))
    return image_figures.variations(images.pixels, varied, ts), varied.reshape(len(varied), -1, *varied.shape[3:])


def roundtrip(inputs: Inputs, _: Options, images: LabelledImages) -> Edited:
    """x_T by DDIM inversion, and the image decoded from it. DDIM section 5.4."""
    latents, decoded, errors = edits.roundtrip(inputs.image_sampler, images)
    return image_figures.roundtrip(images.pixels, latents, decoded, errors), decoded[:, None]


EDITS: dict[str, Callable[..., Edited]] = {
    "interpolate": interpolate,
    "latent": latent,
    "inpaint": inpaint,
    "vary": vary,
    "roundtrip": roundtrip,
}
PAIRS = ("interpolate", "latent")
"""The edits of two images."""


def _fractions(inputs: Inputs, options: Options) -> list[float]:
    """The steps of --t as fractions of T. Raises ValueError for one outside 1..T."""
    T, ts = inputs.run.config.diffusion.T, [int(text) for text in options.t]
    for t in ts:
        if not 1 <= t <= T:
            raise ValueError(f"--t={t}: a step of this run lies in 1..{T}")
    return [t / T for t in ts] or [0.5]


def _shares(inputs: Inputs) -> list[float]:
    """Shares of the other image in mixtures, from 0 to 1."""
    return np.linspace(0, 1, inputs.count(MIXTURES)).round(3).tolist()
