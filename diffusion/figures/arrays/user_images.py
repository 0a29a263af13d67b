"""What a user gives to be edited: images from files or from the held-out set, and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.data.images import Header, decode, header
from diffusion.data.source import Source

Shape = tuple[int, int, int]
"""H, W, C that the network draws."""


class Given(NamedTuple):
    """Images and their classes."""

    pixels: np.ndarray
    """uint8 [R, H, W, C]."""
    labels: np.ndarray
    """int32 [R]; zeros where the network is not told a class."""


def files(paths: Sequence[str], shape: Shape, label: int = 0, fit: bool = False) -> Given:
    """Image files as they are, or with `fit` cropped to a square, resized and made grey as the network needs it.

    An image whose channels are equal is grey, whatever its file says; a grey one goes to a network for colour as it is.
    Raises ValueError for a file that is missing, is no image of 8 bits a channel, or has another size or colours.
    """
    pixels = np.stack([_image(path, shape, fit) for path in paths])
    return Given(pixels, np.full(len(pixels), label, np.int32))


def held_out(source: Source, indices: Sequence[int]) -> Given:
    """Images of a split by their number. Raises ValueError for a number that it does not have."""
    for i in indices:
        if not 0 <= i < source.size:
            raise ValueError(f"the held-out set of {source.name} has images 0..{source.size - 1}, not {i}")
    pixels, labels = source.read(np.asarray(indices, np.int64))
    return Given(pixels, labels)


def some(source: Source, n: int, seed: int) -> Given:
    """n different images of a split, chosen by the seed. Raises ValueError where it has fewer."""
    if n > source.size:
        raise ValueError(f"{source.name} has {source.size} images here, not {n}; ask for fewer")
    return held_out(source, np.random.default_rng(seed).permutation(source.size)[:n].tolist())


def _hidden(rows: slice, columns: slice) -> np.ndarray:
    quarters = np.ones((4, 4), bool)
    quarters[rows, columns] = False
    return quarters


_ALL, _FIRST, _LAST, _MIDDLE = slice(None), slice(0, 2), slice(2, 4), slice(1, 3)

MASKS: Mapping[str, np.ndarray] = {
    "left": _hidden(_ALL, _FIRST),
    "right": _hidden(_ALL, _LAST),
    "top": _hidden(_FIRST, _ALL),
    "bottom": _hidden(_LAST, _ALL),
    "middle": _hidden(_MIDDLE, _MIDDLE),
}
"""What is known of an image, by the name of the part that is not, in quarters of its height and width."""


def named_mask(name: str, shape: Shape) -> np.ndarray:
    """bool [H, W], true where the image is known."""
    rows, columns = (np.arange(side) * 4 // side for side in shape[:2])
    return MASKS[name][np.ix_(rows, columns)]


def mask(text: str, shape: Shape) -> np.ndarray:
    """bool [H, W], true where the image is known: the part that a name of MASKS leaves, or a picture's dark pixels.

    White (128..255) is painted anew. Raises ValueError for a file that is missing, is no image or has another size, and
    for a mask that leaves nothing to do or nothing to go by.
    """
    if text in MASKS:
        return named_mask(text, shape)
    names = f"or name the part to be painted anew: {', '.join(MASKS)}"
    if not Path(text).is_file():
        raise ValueError(f"--mask={text}: there is no such file; give a picture, {names}")
    seen = header(text)
    if (seen.height, seen.width) != shape[:2]:
        raise ValueError(
            f"{text}: {_size(seen)} pixels, but the mask of {_size(shape)} images must have their size; {names}"
        )
    known = decode(text, text, grey=True)[..., 0] < 128
    if known.all():
        raise ValueError(f"{text}: nothing is white, so there is nothing to paint; white (128..255) is painted anew")
    if not known.any():
        raise ValueError(f"{text}: all is white, so nothing of the image counts: draw samples by scripts/sample.py")
    return known


def _image(path: str, shape: Shape, fit: bool) -> np.ndarray:
    height, width, channels = shape
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file; give an image of {_size(shape)} pixels")
    seen = header(path)
    if fit:
        if height != width:
            raise ValueError(
                f"--fit makes squares, but this network draws {_size(shape)} pixels; resize {path} yourself"
            )
        return decode(path, path, channels == 1, size=height)
    if (seen.height, seen.width) != (height, width):
        raise ValueError(
            f"{path}: {_size(seen)} pixels, but this network draws {_size(shape)}; resize it, or add --fit, which "
            "crops and resizes"
        )
    pixels = decode(path, path, grey=False)
    if channels == 1 and (pixels != pixels[..., :1]).any():
        raise ValueError(f"{path}: has colours, but this network draws grey images; add --fit, which makes it grey")
    return pixels[..., :channels]


def _size(seen: Header | Shape) -> str:
    """WxH."""
    height, width = seen[:2]
    return f"{width}x{height}"
