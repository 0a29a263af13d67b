"""The decoder of image files: any encoded image -> uint8 array; the resize of the ADM line of papers.

Every place that reads an image of a user's (data sets, sample sets, edits) reads it here.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

PNG, TIFF = "PNG", "TIFF"
PALETTES = frozenset({"P", "PA"})
GREY = frozenset({"1", "L"})
COLOUR = frozenset({"LA", "P", "PA", "RGB", "RGBA", "CMYK"})
DEEP = re.compile(r";16[BLN]")
"""In Pillow's name of how a file stores its pixels: 16 bits a channel, of which Pillow would keep the upper 8."""
SIDEWAYS = 5
"""EXIF orientations from here on swap height and width."""
NO_FILE = "a pipe, a socket or a device is no image file; remove it"

UPRIGHT, ALPHA, PALETTE, CMYK, FRAMES = "upright", "alpha", "palette", "CMYK", "frames"
REMARKS = {
    UPRIGHT: "turned upright as their EXIF orientation says",
    ALPHA: "with transparency, flattened on {background} (data.background)",
    PALETTE: "with a palette, read as RGB",
    CMYK: "in CMYK, read as RGB",
    FRAMES: "with several frames, of which the first is read",
}
"""What the decoder changes in an image, as a report states it after their number."""


class Header(NamedTuple):
    """What an image file states about itself, read without decoding its pixels."""

    height: int
    """Of the upright image, as the width."""
    width: int
    grey: bool
    remarks: frozenset[str] = frozenset()
    """Keys of REMARKS."""


class Unsupported(ValueError):
    """An intact image of a kind that is not read; the message has the remedy."""


@contextmanager
def _opened(file: str | BytesIO, name: str) -> Iterator[Any]:
    """An image of 8 bits a channel. Whatever a decoder raises (OSError, SyntaxError, ...) becomes a ValueError."""
    from PIL import Image, UnidentifiedImageError

    try:
        if isinstance(file, str) and os.path.exists(file) and not os.path.isfile(file):
            raise Unsupported(NO_FILE)
        with Image.open(file) as image:
            _require_eight_bits(image)
            yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: not a readable image (of no known format); repair or remove it") from error
    except Unsupported as error:
        raise ValueError(f"{name}: {error}") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: not a readable image ({reason}); repair or remove it") from error


def header(file: str | BytesIO, name: str) -> Header:
    """Size and kind of an image file. Raises ValueError if it is no image, or has not 8 bits a channel."""
    with _opened(file, name) as image:
        orientation = _orientation(image)
        swapped = orientation >= SIDEWAYS and image.format != TIFF  # Pillow gives the upright size of TIFF files
        height, width = (image.width, image.height) if swapped else (image.height, image.width)
        present = {
            UPRIGHT: orientation > 1,
            ALPHA: image.has_transparency_data,
            PALETTE: image.mode in PALETTES,
            CMYK: image.mode == CMYK,
            FRAMES: getattr(image, "is_animated", False),
        }
        return Header(height, width, image.mode in GREY, frozenset(key for key, is_so in present.items() if is_so))


def decode(
    file: str | BytesIO, name: str, grey: bool, size: int = 0, crop: int = 0, background: str = "white"
) -> np.ndarray:
    """An encoded image as uint8 [H, W, 1 if grey else 3]; resized to [size, size] unless size is 0, as `_square` does.

    It is turned upright as its EXIF orientation says, palettes and CMYK become RGB, transparency is flattened on the
    background colour before anything is resized, and of several frames the first is read. Raises ValueError that names
    the image: a broken one, one of more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

    with _opened(file, name) as image:
        image = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
        if image.has_transparency_data:
            canvas = Image.new("RGBA", image.size, background)
            canvas.alpha_composite(image.convert("RGBA"))
            image = canvas
        image = image.convert("L" if grey else "RGB")
        return np.atleast_3d(np.asarray(_square(image, size, crop) if size else image))


def resize(pixels: np.ndarray, size: int, crop: int = 0) -> np.ndarray:
    """uint8 [H, W, 1 or 3] -> [size, size, 1 or 3], as `decode` does it."""
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.atleast_3d(np.asarray(_square(image, size, crop)))


def _orientation(image: Any) -> int:
    """The EXIF orientation of an opened image, 1..8; 1 where there is none, or it cannot be read.

    Of a PNG file only what precedes its pixels is read: to look behind them would decode it.
    """
    if image.format == PNG and not image.info.get("exif"):
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata of an intact image
        return 1
    return value if value in range(1, 9) else 1


def _require_eight_bits(image: Any) -> None:
    """Raises Unsupported: 16 bits a channel have no fixed range, and 12-bit data in them would be nearly black."""
    stored = [str(tile[3]) for tile in image.tile or ()]
    if image.mode not in GREY | COLOUR or any(map(DEEP.search, stored)):
        mode = next(filter(DEEP.search, stored), image.mode)
        raise Unsupported(
            f"its pixels are {mode}, but 8 bits a channel are needed; scale them to 0..255 by their real range (12-bit "
            "data in 16 bits go up to 4095) and save the image again"
        )


def _square(image: Any, size: int, crop: int = 0) -> Any:
    """Shorter side to `size`, then the central square; with `crop`, from the central square of so many pixels.

    Halved by box filter while it is at least twice too large, then bicubic. Raises ValueError where the image is
    smaller than `crop`. The preparation of the 64x64 and 256x256 sets in improved-diffusion and ADM. Small images are
    enlarged.
    """
    from PIL.Image import Resampling

    if crop > min(image.size):
        raise ValueError(f"it has {image.width}x{image.height} pixels, fewer than the {crop} of --config.data.crop")
    if crop:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))
