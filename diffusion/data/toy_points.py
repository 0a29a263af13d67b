"""Two-dimensional toy distributions: points of the plane as grey images of 1x2 pixels, like any other data set.

The first pixel is the abscissa, the second the ordinate. As pixels they lie on a grid of 256 x 256 levels over
[-1, 1]^2, which moves a point by 1/255 at most: far less than the width of anything drawn here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffusion.data.dataset_interface import Source, in_memory

SHAPE = (1, 2, 1)
"""H, W, C of a point."""
TRAIN, TEST = 20_000, 2_000

MODES, RADIUS, SPREAD = 8, 0.7, 0.06
"""The mixture: number of Gaussians on a ring, radius of the ring, standard deviation of each Gaussian."""
SIDE, FIELD = 4, 0.45
"""The checkerboard: fields on a side, length of a field."""
TURNS = 2.0
"""Number of turns of the spiral."""


class Toy(NamedTuple):
    """A distribution of points in the plane, inside [-1, 1]^2 but for one in some millions."""

    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
    """(generator, n) -> points float64 [n, 2], labels [n]."""
    classes: int = 0


def _spiral(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Archimedes' spiral; the root makes points about as dense everywhere along it."""
    share = np.sqrt(rng.uniform(0.02, 1.0, n))
    angle = 2 * np.pi * TURNS * share
    arm = 0.85 * share[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return arm + 0.02 * rng.normal(size=(n, 2)), np.zeros(n, np.int32)


def _moons(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles, each of which has its end inside the other. The label says which."""
    label = rng.integers(0, 2, n).astype(np.int32)
    angle = np.pi * rng.uniform(size=n)
    sign = 1 - 2 * label
    arc = np.stack([label + sign * np.cos(angle), 0.5 * label + sign * np.sin(angle)], axis=1)
    return (arc - [0.5, 0.25]) / 1.8 + 0.03 * rng.normal(size=(n, 2)), label


def _checkerboard(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform on the fields (i, j) with i + j even."""
    i = rng.integers(0, SIDE, n)
    j = 2 * rng.integers(0, SIDE // 2, n) + i % 2
    corner = FIELD * (np.stack([i, j], axis=1) - SIDE / 2)
    return corner + FIELD * rng.uniform(size=(n, 2)), np.zeros(n, np.int32)


def centres() -> np.ndarray:
    """Means of the mixture's Gaussians, [MODES, 2]."""
    angle = 2 * np.pi * np.arange(MODES) / MODES
    return RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _mixture(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians of one weight. The label says which."""
    label = rng.integers(0, MODES, n).astype(np.int32)
    return centres()[label] + SPREAD * rng.normal(size=(n, 2)), label


TOYS: dict[str, Toy] = {
    "spiral": Toy(_spiral),
    "moons": Toy(_moons, classes=2),
    "checkerboard": Toy(_checkerboard),
    "mixture": Toy(_mixture, classes=MODES),
}


def toy(name: str, train: bool) -> Source:
    """Points of a law as images of SHAPE, 20,000 for training and 2,000 others held out; the same ones every time.

    Raises ValueError for a law that there is not.
    """
    if name not in TOYS:
        raise ValueError(f"toy:{name} is no set of points; there are {', '.join(f'toy:{known}' for known in TOYS)}")
    chosen = TOYS[name]
    points, labels = chosen.draw(np.random.default_rng([7, train]), TRAIN if train else TEST)
    return in_memory(f"toy:{name}", to_pixels(points), labels, chosen.classes)


def to_pixels(points: np.ndarray) -> np.ndarray:
    """Points [..., 2] in [-1, 1]^2 as uint8 images [..., 1, 2, 1]; what lies outside goes to the edge."""
    levels = np.rint((np.clip(points, -1, 1) + 1) * 127.5).astype(np.uint8)
    return levels[..., None, :, None]


def to_points(pixels: np.ndarray) -> np.ndarray:
    """uint8 images [..., 1, 2, 1] as points [..., 2] in [-1, 1]^2."""
    return pixels[..., 0, :, 0] / 127.5 - 1
