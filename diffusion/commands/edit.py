"""Edits of image files or held-out images by the network of a run, as the flags of scripts/edit.py ask for them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.data import user_images
from diffusion.data.dataset_identity import label_number, listed
from diffusion.data.user_images import LabelledImages
from diffusion.figures import edit_images_with_run as edits
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.figures.image_grid import save_image
from diffusion.figures.style import SUFFIXES, save
from diffusion.runtime.paths import check_place


class Options(NamedTuple):
    """Flags of scripts/edit.py, by name."""

    image: Sequence[str] = ()
    other: Sequence[str] = ()
    held_out: Sequence[int] = ()
    fit: bool = False
    label: str | None = None
    mask: str | None = None
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
    check_place("out", out)
    if separate:
        check_place("separate", separate)
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
        numbers = options.held_out
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


def _mask(inputs: Inputs, options: Options) -> np.ndarray:
    """Where pixels are known, bool [H, W]."""
    if options.mask is None:
        raise ValueError(
            f"--mask is required: a picture, white where to inpaint, or one of {', '.join(user_images.HIDDEN_PARTS)}"
        )
    return user_images.read_mask(options.mask, inputs.run.shape)


EDITS: dict[str, Callable[..., edits.Edited]] = {
    "interpolate": lambda i, _, one, two: edits.interpolate(i.sampler(), one, two, edits.shares(i.n), i.fractions),
    "latent": lambda i, _, one, two: edits.interpolate_latents(i.sampler(), one, two, edits.shares(i.n)),
    "inpaint": lambda i, o, images: edits.inpaint(
        i.sampler(), images, _mask(i, o), i.n or edits.DRAWS, o.resamplings, o.jump
    ),
    "vary": lambda i, _, images: edits.vary(i.sampler(), images, i.n or edits.DRAWS, i.fractions),
    "roundtrip": lambda i, _, images: edits.roundtrip(i.sampler(), images),
}
"""Kind -> the edit of (inputs, options, images), and for those in PAIRS of the other image of each."""
PAIRS = ("interpolate", "latent")
