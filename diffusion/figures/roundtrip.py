"""Images, the noise from which DDIM makes them, and what it makes of that. DDIM section 5.4."""

from typing import Any

import numpy as np

from diffusion.figures.panel import panel


def roundtrip(given: np.ndarray, latents: np.ndarray, decoded: np.ndarray) -> Any:
    """A Figure with a row for each image: the image, its x_T, and the image decoded from it; uint8 [R, H, W, C] each.

    At the right of each row stands what was lost: |decoded - given|, ten times as bright.
    """
    lost = np.abs(decoded.astype(int) - given.astype(int))
    lost = np.minimum(10 * lost, 255).astype(np.uint8)
    cells = np.stack([given, latents, decoded, lost], axis=1)
    return panel(cells, ["given", "x_T", "decoded", "error x 10"], gaps=[3], wide=480)
