"""Figures of images in rows and columns: progressive generation, forks, interpolation, inpainting, neighbours."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure

HIDDEN = (86, 180, 233)
"""Colour of hidden pixels: the light blue of style.LINES, which no grey image has."""


def progressive(hats: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a chain in each row: x_0_hat at the steps, then the sample.

    hats: uint8 [N, K + 1, H, W, C], the last the sample; steps: the K values of t, falling.
    DDPM figures 6 and 14.
    """
    return image_figure(hats, [*step_headings(steps), "sample"], gaps=[len(steps)])


def forks(ends: np.ndarray, x_t: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a chain in each row and a step in each column: in each block x_t bottom right, its ends around it.

    ends: uint8 [G, S, n, H, W, C] with n = k^2 - 1 (3, 8, ...); x_t: uint8 [G, S, H, W, C]; steps: the S values of t.
    DDPM figure 7.
    """
    groups, at, n, *shape = ends.shape
    side = math.isqrt(n + 1)
    blocks = np.concatenate([ends, x_t[:, :, None]], axis=2).reshape(groups, at, side, side, *shape)
    cells = blocks.swapaxes(1, 2).reshape(groups * side, at * side, *shape)
    gaps, row_gaps = (range(side, count * side, side) for count in (at, groups))
    return image_figure(cells, step_headings(steps), gaps=gaps, row_gaps=row_gaps, span=side)


def interpolation(
    first: np.ndarray, second: np.ndarray, mixtures: np.ndarray, lam: Sequence[float], rows: Sequence[str] = ()
) -> Any:
    """A Figure with, in each row: an image, the mixtures at rising lam, the other image.

    first, second: uint8 [R, H, W, C]; mixtures: uint8 [R, L, H, W, C]; lam: the L shares of the second image; rows: a
    heading for each row, such as its t, or one for all. DDPM figure 8 (one t) and figure 9 (coarse to fine).
    """
    cells = np.concatenate([first[:, None], mixtures, second[:, None]], axis=1)
    names = [f"{value:g}" for value in lam]
    return image_figure(cells, ["original", f"λ = {names[0]}", *names[1:], "original"], rows, gaps=[1, len(names) + 1])


def inpainting(originals: np.ndarray, known: np.ndarray, completed: np.ndarray) -> Any:
    """A Figure with, in each row: an image, its known part, and completions.

    originals: uint8 [R, H, W, C]; known: bool [H, W]; completed: uint8 [R, n, H, W, C]. RePaint figures 1 and 4.
    """
    cells = np.concatenate([originals[:, None], originals[:, None], completed], axis=1)
    cells = np.broadcast_to(cells, (*cells.shape[:-1], 3)).copy()
    cells[:, 1] = np.where(known[..., None], cells[:, 1], np.array(HIDDEN, np.uint8))
    return image_figure(cells, ["original", "known", *numbered("completed", completed.shape[1])], gaps=[1, 2])


def variations(originals: np.ndarray, varied: np.ndarray, steps: Sequence[int]) -> Any:
    """A Figure with a row for each image and step: the image, and its variations from that step; a gap between images.

    originals: uint8 [R, H, W, C]; varied: uint8 [R, S, n, H, W, C]; steps: the S values of t. SDEdit figure 3.
    """
    count, per_image, n, *shape = varied.shape
    left = np.broadcast_to(originals[:, None, None], (count, per_image, 1, *shape))
    cells = np.concatenate([left, varied], axis=2).reshape(-1, n + 1, *shape)
    headings = ["original", *numbered("varied", n)], [f"t = {t}" for t in steps] * count
    return image_figure(cells, *headings, gaps=[1], row_gaps=range(per_image, len(cells), per_image))


def neighbours(samples: np.ndarray, nearest: np.ndarray) -> Any:
    """A Figure with a sample at the left of each row and its neighbours after it, the nearest first.

    samples: uint8 [N, H, W, C]; nearest: uint8 [N, k, H, W, C]. A check for memorisation: DDPM figures 12 and 15.
    """
    cells = np.concatenate([samples[:, None], nearest], axis=1)
    return image_figure(cells, ["sample", *numbered("nearest", nearest.shape[1])], gaps=[1])


def roundtrip(originals: np.ndarray, latents: np.ndarray, decoded: np.ndarray) -> Any:
    """A Figure with a row for each image: the image, its x_T, and the image decoded from it; uint8 [R, H, W, C] each.

    The last column is the error |decoded - original|, ten times as bright; its root mean square in levels of 0..255
    stands beside the row. DDIM section 5.4.
    """
    error = np.abs(decoded.astype(int) - originals.astype(int))
    cells = np.stack([originals, latents, decoded, np.minimum(10 * error, 255).astype(np.uint8)], axis=1)
    rows = [f"RMSE {np.sqrt(np.mean(image**2)):.3g}" for image in error]
    return image_figure(cells, ["original", "x_T", "decoded", "error x 10"], rows, gaps=[3], wide=480)


def numbered(name: str, count: int) -> list[str]:
    """Headings of a series: nearest, 2, 3, ..."""
    return [name, *map(str, range(2, count + 1))][:count]


def step_headings(steps: Sequence[int]) -> list[str]:
    """Headings of steps: t = 1000, then bare numbers."""
    return [f"t = {t}" if i == 0 else str(t) for i, t in enumerate(steps)]
