"""Images to be edited, read from files or from the held-out set, and inpainting masks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffusion.data.dataset_interface import Source
from diffusion.data.image_decoder import decode
from diffusion.runtime.bucket_cache import local
from diffusion.runtime.paths import expanded
from diffusion.runtime.short_error_text import reason

Shape = tuple[int, int, int]
"""H, W, C of the network's images."""


class LabelledImages(NamedTuple):
    """Images and their classes."""

    pixels: np.ndarray
    """uint8 [R, H, W, C]."""
    labels: np.ndarray
    """int32 [R]; zeros for a network without classes."""


def read_files(
    paths: Sequence[str], shape: Shape, label: int = 0, fit: bool = False, background: str = "white"
) -> LabelledImages:
    """Image files as they are, or with `fit` cropped to a square, resized and made grey as the network needs it.

    An image whose channels are equal counts as grey. A network for colour takes grey images as they are. Raises
    ValueError for a file that is missing, is no image of 8 bits a channel, or has another size or colours.
    """
    pixels = np.stack([_image(path, shape, fit, background) for path in paths])
    return LabelledImages(pixels, np.full(len(pixels), label, np.int32))


def held_out(source: Source, indices: Sequence[int]) -> LabelledImages:
    """Images of a split by their number. Raises ValueError for a number that it does not have."""
    for i in indices:
        if not 0 <= i < source.size:
            raise ValueError(f"the held-out set of {source.name} has images 0..{source.size - 1}, not {i}")
    pixels, labels = source.read(np.asarray(indices, np.int64))
    return LabelledImages(pixels, labels)


def random_images(source: Source, n: int, seed: int) -> LabelledImages:
    """n different images of a split, chosen by the seed; all where it has fewer."""
    return held_out(source, np.random.default_rng(seed).permutation(source.size)[:n].tolist())


def random_pairs(source: Source, n: int, seed: int, same_class: bool) -> tuple[LabelledImages, LabelledImages]:
    """The first and the second images of n pairs of different images, chosen by the seed.

    same_class: both images of a pair have one class. Raises ValueError where 64 n images of the set hold too few pairs.
    """
    pixels, labels = random_images(source, min(64 * n, source.size // 2 * 2), seed)
    pairs = np.argsort(labels * same_class, kind="stable").reshape(-1, 2)
    pairs = pairs[(labels[pairs[:, 0]] == labels[pairs[:, 1]]) | (not same_class)]
    pairs = pairs[np.argsort(pairs[:, 0])][:n]
    if len(pairs) < n:
        raise ValueError(f"{source.name}: its {source.size} images give {len(pairs)} pairs, not {n}; ask for fewer")
    first, second = (LabelledImages(pixels[rows], labels[rows]) for rows in pairs.T)
    return first, second


HIDDEN_PARTS = {
    "left": (slice(None), slice(0, 2)),
    "right": (slice(None), slice(2, 4)),
    "top": (slice(0, 2), slice(None)),
    "bottom": (slice(2, 4), slice(None)),
    "middle": (slice(1, 3), slice(1, 3)),
}
"""Masks by the name of the hidden part: its rows and columns in quarters of height and width."""


def read_mask(text: str, shape: Shape) -> np.ndarray:
    """bool [H, W], true where the image is known: a mask by the name of its hidden part, or a picture's dark pixels.

    White pixels (128..255) are inpainted. Raises ValueError for a file that is missing, is no image or has another
    size, and for a mask that hides nothing or everything.
    """
    if text in HIDDEN_PARTS:
        quarters = np.ones((4, 4), bool)
        quarters[HIDDEN_PARTS[text]] = False
        return quarters[np.ix_(*(np.arange(side) * 4 // side for side in shape[:2]))]
    if not expanded(text).is_file():
        names = ", ".join(HIDDEN_PARTS)
        raise ValueError(f"--mask={text}: there is no such file; give a picture, or name the part to inpaint: {names}")
    known = decode(str(local(expanded(text))), text, grey=True)[..., 0] < 128
    if known.shape != shape[:2] or known.all() or not known.any():
        raise ValueError(
            f"{text}: the mask of {_size(shape)} images must have their size, and some but not only white pixels "
            f"(128..255), which are inpainted; it has {_size(known.shape)} pixels, {np.sum(~known)} of them white"
        )
    return known


def _image(path: str, shape: Shape, fit: bool, background: str) -> np.ndarray:
    height, _, channels = shape
    try:
        file = str(local(expanded(path)))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({reason(error)})") from error
    pixels = decode(file, path, fit and channels == 1, height if fit else 0, background=background)
    if pixels.shape[:2] != shape[:2]:
        raise ValueError(
            f"{path}: {_size(pixels.shape)} pixels, but this network draws {_size(shape)}; resize it, or add --fit, "
            "which crops and resizes to squares"
        )
    if channels == 1 and (pixels != pixels[..., :1]).any():
        raise ValueError(f"{path}: has colours, but this network draws grey images; add --fit, which makes it grey")
    return pixels[..., :channels]


def _size(shape: Sequence[int]) -> str:
    """Width and height, such as 8x8."""
    return f"{shape[1]}x{shape[0]}"
