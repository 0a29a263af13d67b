"""A cloud of points on its way, as a GIF."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.figures.points import scatter

SIDE = 300
REACH = 1.6
GREYS = 16
"""Levels of grey: dots overlap a few times at most, and files stay small."""
PACE, REST = 60, 1500
"""Milliseconds that a frame is shown, and the last one."""


class Frames(NamedTuple):
    """Pictures one after the other; saved as figures are."""

    pictures: np.ndarray
    """uint8 [F, H, W]."""

    def savefig(self, path: Path, **settings: Any) -> None:  # noqa: ARG002
        """Writes a GIF that goes round for ever; `settings` are those of a matplotlib Figure, of which it has none."""
        from PIL import Image

        levels = np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8)
        palette = np.repeat(levels, 3).tobytes()
        frames = [Image.fromarray(picture) for picture in np.rint(self.pictures / 255 * (GREYS - 1)).astype(np.uint8)]
        for frame in frames:
            frame.putpalette(palette)
        pace = [PACE] * (len(frames) - 1) + [REST]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=pace, loop=0)


def animation(clouds: np.ndarray) -> Frames:
    """Frames of points [F, n, 2]. Raises ValueError if there is none."""
    if not len(clouds):
        raise ValueError("an animation needs at least one frame")
    return Frames(np.stack([scatter(cloud, SIDE, REACH, dot=2)[..., 0] for cloud in clouds]))
