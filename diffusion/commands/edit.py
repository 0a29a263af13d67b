"""Edits of a user's images by the network of a run: each reads its images, makes a picture and the edited images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data import user_images
from diffusion.data.dataset_identity import label_number, listed
from diffusion.data.user_images import LabelledImages
from diffusion.figures.figure_data import edits
from diffusion.figures.image_figures import inpainting, interpolation, variations
from diffusion.figures.image_figures import roundtrip as draw_roundtrip
from diffusion.figures.image_grid import save_image
from diffusion.figures.loaded_run import Inputs
from diffusion.figures.style import SUFFIXES, save
from diffusion.runtime.workdir_and_data_flags import DataFlags

DRAWS, MIXTURES = 8, 11
"""Default numbers of draws of an image, and of mixtures of two."""


class Options(NamedTuple):
    """The flags of scripts/edit.py, by name."""

    workdir: Path
    edit: str | None
    image: Sequence[str] = ()
    other: Sequence[str] = ()
    held_out: Sequence[str] = ()
    fit: bool = False
    label: str | None = None
    mask: str | None = None
    t: Sequence[str] = ()
    n: int | None = None
    resamplings: int = 10
    jump: int = 1
    shared: bool = False
    seed: int = 0
    step: int | None = None
    raw: bool = False
    grid: str | None = None
    out: Path | None = None
    separate: Path | None = None
    data: DataFlags = DataFlags()


class Result(NamedTuple):
    """What an edit makes."""

    figure: Any
    images: np.ndarray
    """uint8 [R, n, H, W, C]: the results of each image or pair."""
    lines: tuple[str, ...] = ()
    """Numbers to print."""


class Edit(NamedTuple):
    """A kind of edit."""

    make: Callable[..., Result]
    """(inputs, options, images [, the other image of each]) -> Result."""
    flags: frozenset[str]
    """The flags that it reads and not every edit does."""
    pairs: bool = False
    """Whether it takes two images."""


def run(options: Options, present: frozenset[str]) -> list[str]:
    """Makes an edit, writes its files and returns the lines to print; `present`: the flags that were given.

    Raises ValueError for flags, images and steps that do not go together or do not fit the run.
    """
    if options.edit is None:
        raise ValueError(f"--edit is required: {', '.join(EDITS)}; --help says what each does")
    edit = EDITS[options.edit]
    for name in sorted(frozenset().union(*(other.flags for other in EDITS.values())) - edit.flags):
        if name in present:
            users = " or ".join(f"--edit={key}" for key, other in EDITS.items() if name in other.flags)
            raise ValueError(f"--{name} has no effect on --edit={options.edit}; it belongs to {users}")
    folder = options.workdir
    out = options.out or folder / "edits" / f"{options.edit}.png"
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise ValueError(f"--out={out}: a picture is written as {', '.join(SUFFIXES)}; name such a file")
    if options.separate and options.separate.exists() and not options.separate.is_dir():
        raise ValueError(f"--separate={options.separate} is a file; name a folder")
    inputs = Inputs(folder, options.n, options.seed, options.step, options.raw, None, options.grid, options.data)
    result = edit.make(inputs, options, *_images(inputs, options, edit.pairs, present))
    save(result.figure, out)
    if options.separate:
        _write_each(result.images, options.separate)
    return [*result.lines, str(out)]


def _images(inputs: Inputs, options: Options, pairs: bool, present: frozenset[str]) -> list[LabelledImages]:
    """The images to edit, and for edits of pairs the other image of each."""
    config, names = inputs.run.config, inputs.run.class_names

    if bool(options.image) == bool(options.held_out):
        raise ValueError(
            "give images either as files, --image=a.png, or by their number among the held-out ones, --held_out=0"
        )
    if options.held_out:
        for name in ("image", "other", "fit", "label"):
            if name in present:
                raise ValueError(f"--{name} is for image files; leave it out with --held_out")
        numbers = _whole("held_out", options.held_out)
        if pairs and len(numbers) % 2:
            raise ValueError(f"--edit={options.edit} needs two images for each picture: --held_out=0,1")
        source = inputs.source(train=False)
        return [user_images.held_out(source, part) for part in ([numbers[::2], numbers[1::2]] if pairs else [numbers])]
    if pairs and len(options.image) != len(options.other):
        raise ValueError(f"--edit={options.edit} needs as many --other as --image: --image=a.png --other=b.png")
    labelled = config.net.class_conditional or config.sample.guidance > 0
    if labelled and options.label is None:
        raise ValueError(f"--label is required: the class of the images ({listed(names)}) is an input of this run")
    if not labelled and options.label is not None:
        raise ValueError("--label has no effect: the class of an image is no input of this run")
    label = 0 if options.label is None else label_number(options.label, names)
    files = [options.image, options.other] if pairs else [options.image]
    shape, background = inputs.run.shape, config.data.background
    return [user_images.read_files(paths, shape, label, options.fit, background) for paths in files]


def _fractions(inputs: Inputs, options: Options) -> list[float]:
    """The steps of --t as fractions of T. Raises ValueError for one outside 1..T."""
    T, ts = inputs.run.config.diffusion.T, _whole("t", options.t)
    for t in ts:
        if not 1 <= t <= T:
            raise ValueError(f"--t={t}: a step of this run lies in 1..{T}")
    return [t / T for t in ts] or [0.5]


def _whole(name: str, texts: Sequence[str]) -> list[int]:
    """Whole numbers. Raises ValueError for a text that is none."""
    for text in texts:
        if not text.strip().isdecimal():
            raise ValueError(f"--{name}={text}: whole numbers are needed, separated by commas")
    return [int(text) for text in texts]


def _shares(options: Options) -> list[float]:
    """Shares of the other image in mixtures, from 0 to 1."""
    n = options.n or MIXTURES
    if n < 2:
        raise ValueError(f"--n={n}: mixtures go from one image to the other, so at least 2 are needed")
    return [round(i / (n - 1), 3) for i in range(n)]


def interpolate(inputs: Inputs, options: Options, first: LabelledImages, second: LabelledImages) -> Result:
    """Mixtures of x_t of two images, denoised. DDPM figures 8 and 9."""
    lam, fractions = _shares(options), _fractions(inputs, options)
    mixtures, ts = edits.interpolate(inputs.image_sampler, first, second, lam, fractions, options.shared)
    mixtures = mixtures.swapaxes(0, 1).reshape(-1, *mixtures.shape[2:])  # the steps of one pair below each other
    left, right = (x.pixels.repeat(len(ts), axis=0) for x in (first, second))
    rows = [f"t = {t}" for t in ts] * len(first.pixels)
    return Result(interpolation(left, right, mixtures, lam, rows), mixtures)


def latent(inputs: Inputs, options: Options, first: LabelledImages, second: LabelledImages) -> Result:
    """Mixtures of the DDIM latents of two images. DDIM figure 6."""
    lam = _shares(options)
    mixtures = edits.interpolate_latents(inputs.image_sampler, first, second, lam)
    return Result(interpolation(first.pixels, second.pixels, mixtures, lam), mixtures)


def inpaint(inputs: Inputs, options: Options, images: LabelledImages) -> Result:
    """Completions of the hidden part of images. RePaint, Algorithm 1."""
    if options.mask is None:
        raise ValueError(
            f"--mask is required: a picture, white where to inpaint, or one of {', '.join(user_images.HIDDEN_PARTS)}"
        )
    known, n = user_images.read_mask(options.mask, inputs.run.shape), options.n or DRAWS
    completed = edits.inpaint(inputs.image_sampler, images, known, n, options.resamplings, options.jump)
    return Result(inpainting(images.pixels, np.broadcast_to(known, images.pixels.shape[:3]), completed), completed)


def vary(inputs: Inputs, options: Options, images: LabelledImages) -> Result:
    """Images noised up to step t and denoised. SDEdit, Algorithm 1."""
    fractions = _fractions(inputs, options)
    varied, ts = edits.vary(inputs.image_sampler, images, options.n or DRAWS, fractions)
    return Result(variations(images.pixels, varied, ts), varied.reshape(len(varied), -1, *varied.shape[3:]))


def roundtrip(inputs: Inputs, options: Options, images: LabelledImages) -> Result:  # noqa: ARG001
    """x_T by DDIM inversion, and the image decoded from it. DDIM section 5.4."""
    latents, decoded, errors = edits.roundtrip(inputs.image_sampler, images)
    lines = [f"image {i}     root mean squared error {error:.3g} levels of 255" for i, error in enumerate(errors)]
    return Result(draw_roundtrip(images.pixels, latents, decoded), decoded[:, None], tuple(lines))


EDITS = {
    "interpolate": Edit(interpolate, frozenset({"t", "n", "other", "shared"}), pairs=True),
    "latent": Edit(latent, frozenset({"n", "other"}), pairs=True),
    "inpaint": Edit(inpaint, frozenset({"mask", "n", "resamplings", "jump"})),
    "vary": Edit(vary, frozenset({"t", "n"})),
    "roundtrip": Edit(roundtrip, frozenset()),
}


def _write_each(images: np.ndarray, folder: Path) -> None:
    """Each result as a PNG, named by its row and column."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            save_image(image, folder / f"{i:03d}_{j:03d}.png")
