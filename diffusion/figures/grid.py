"""A square of images as one picture."""

from pathlib import Path

import numpy as np


def grid(pixels: np.ndarray, columns: int = 0, border: int = 1, min_side: int = 0) -> np.ndarray:
    """uint8 [N, H, W, C] images as one uint8 picture with a white border between them, in rows of `columns`.

    columns 0 makes it nearly square. Small images are enlarged by a whole factor, each pixel a square, until the
    picture is at least `min_side` wide; empty cells are white.
    """
    n, height, width, channels = pixels.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    factor = max(1, -(-min_side // (columns * width)))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width, border = height * factor, width * factor, border * max(1, factor // 2)
    cells = np.full((rows * columns, height + border, width + border, channels), 255, np.uint8)
    cells[:n, :height, :width] = pixels
    picture = cells.reshape(rows, columns, height + border, width + border, channels).transpose(0, 2, 1, 3, 4)
    picture = picture.reshape(rows * (height + border), columns * (width + border), channels)
    return np.pad(picture, ((border, 0), (border, 0), (0, 0)), constant_values=255)


def save(picture: np.ndarray, path: Path) -> None:
    """Writes a uint8 picture [H, W, 1 or 3] to a file of the kind that its ending names."""
    from PIL import Image

    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(path)
