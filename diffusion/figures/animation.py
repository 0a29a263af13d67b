"""Points of the plane on their way from noise to data, as a GIF."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.figures.point_cloud import scatter

GREYS = 16
"""Levels of grey: few, so that files stay small."""
FRAME_MS, LAST_FRAME_MS = 60, 1500
"""Milliseconds for which a frame and the last frame are shown."""


class Frames(NamedTuple):
    """The frames of an animation; has the `savefig` of a matplotlib Figure."""

    pictures: np.ndarray
    """uint8 [F, H, W]."""

    def savefig(self, path: Path, **settings: Any) -> None:  # noqa: ARG002
        """Writes a GIF that loops for ever; the `settings` of a matplotlib Figure are ignored."""
        from PIL import Image

        palette = np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8).repeat(3).tobytes()
        frames = [Image.fromarray(picture) for picture in np.rint(self.pictures / 255 * (GREYS - 1)).astype(np.uint8)]
        for frame in frames:
            frame.putpalette(palette)
        durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
        frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def animation(clouds: np.ndarray) -> Frames:
    """Frames of points [F, n, 2]. Raises ValueError if there is none."""
    if not len(clouds):
        raise ValueError("an animation needs at least one frame")
    return Frames(np.stack([scatter(cloud, side=300, reach=1.6, dot=2)[..., 0] for cloud in clouds]))
