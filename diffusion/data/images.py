"""Image files and encoded images -> uint8 arrays; the resize of the ADM line of papers."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

GREY = frozenset({"1", "L"})
COLOUR = frozenset({"LA", "P", "RGB", "RGBA", "CMYK"})


class Header(NamedTuple):
    """What an image file says about itself without being decoded."""

    height: int
    width: int
    grey: bool


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Whatever a decoder raises on a broken file (OSError, SyntaxError, ...) becomes a ValueError that names it."""
    try:
        yield
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name}: not a readable image ({reason}); repair or remove it") from error


def header(path: str) -> Header:
    """Size and kind of an image file. Raises ValueError if it is not an image, or not one of 8 bits a channel."""
    from PIL import Image

    with _naming(path), Image.open(path) as image:
        if image.mode not in GREY | COLOUR:
            raise ValueError(f"its mode is {image.mode}, but 8 bits a channel are needed")
        return Header(image.height, image.width, image.mode in GREY)


def decode(file: str | BytesIO, name: str, grey: bool, size: int = 0, crop: int = 0) -> np.ndarray:
    """An encoded image as uint8 [H, W, 1 if grey else 3]; resized to [size, size] unless size is 0, as `_square` does.

    Palettes and CMYK become RGB. Alpha is dropped: a transparent pixel shows the colour stored under it. The
    orientation tag of EXIF is ignored, as in the usual preparations of the benchmark sets. Raises ValueError that
    names the image.
    """
    from PIL import Image

    with _naming(name), Image.open(file) as image:
        # A palette with transparent entries goes through RGBA, or Pillow warns on every file.
        image = image if image.info.get("transparency") is None else image.convert("RGBA")
        image = image.convert("L" if grey else "RGB")
        pixels = np.asarray(_square(image, size, crop) if size else image)
    return pixels[:, :, None] if grey else pixels


def resize(pixels: np.ndarray, size: int, crop: int = 0) -> np.ndarray:
    """uint8 [H, W, 1 or 3] -> [size, size, 1 or 3], as `decode` does it."""
    from PIL import Image

    grey = pixels.shape[2] == 1
    resized = np.asarray(_square(Image.fromarray(pixels[:, :, 0] if grey else pixels), size, crop))
    return resized[:, :, None] if grey else resized


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
