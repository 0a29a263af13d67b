"""Images, their DDIM latents x_T, and the images decoded from these. DDIM section 5.4."""

from typing import Any

import numpy as np

from diffusion.figures.panel import panel


def roundtrip(originals: np.ndarray, latents: np.ndarray, decoded: np.ndarray) -> Any:
    """A Figure with a row for each image: the image, its x_T, and the image decoded from it; uint8 [R, H, W, C] each.

    The last column is the error |decoded - original|, ten times as bright.
    """
    error = np.abs(decoded.astype(int) - originals.astype(int))
    error = np.minimum(10 * error, 255).astype(np.uint8)
    cells = np.stack([originals, latents, decoded, error], axis=1)
    return panel(cells, ["original", "x_T", "decoded", "error x 10"], gaps=[3], wide=480)
