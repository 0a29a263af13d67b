"""Images to be edited, read from files or from the held-out set, and inpainting masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.data.image_decoder import Header, decode, header
from diffusion.data.source import Source

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
    names = f"or name the part to inpaint: {', '.join(HIDDEN_PARTS)}"
    if not Path(text).is_file():
        raise ValueError(f"--mask={text}: there is no such file; give a picture, {names}")
    if (size := _size(header(text, text))) != _size(shape):
        raise ValueError(f"{text}: {size} pixels, but the mask of {_size(shape)} images must have their size; {names}")
    known = decode(text, text, grey=True)[..., 0] < 128
    if known.all():
        raise ValueError(f"{text}: no pixel is white, so there is nothing to inpaint; white (128..255) is inpainted")
    if not known.any():
        raise ValueError(
            f"{text}: all pixels are white, so nothing of the image is known: draw samples by scripts/sample.py"
        )
    return known


def _image(path: str, shape: Shape, fit: bool, background: str) -> np.ndarray:
    height, width, channels = shape
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file; give an image of {_size(shape)} pixels")
    size, wanted = _size(header(path, path)), _size(shape)
    if fit:
        if height != width:
            raise ValueError(f"--fit makes squares, but this network draws {wanted} pixels; resize {path} yourself")
        return decode(path, path, channels == 1, size=height, background=background)
    if size != wanted:
        raise ValueError(
            f"{path}: {size} pixels, but this network draws {wanted}; resize it, or add --fit, which crops and resizes"
        )
    pixels = decode(path, path, grey=False, background=background)
    if channels == 1 and (pixels != pixels[..., :1]).any():
        raise ValueError(f"{path}: has colours, but this network draws grey images; add --fit, which makes it grey")
    return pixels[..., :channels]


def _size(shape: Header | Shape) -> str:
    """Width and height, such as 8x8."""
    height, width = shape[:2]
    return f"{width}x{height}"
