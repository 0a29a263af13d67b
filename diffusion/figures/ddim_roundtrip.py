"""Images, their DDIM latents x_T, and the images decoded from these. DDIM section 5.4."""

from typing import Any

import numpy as np

from diffusion.figures.image_grid import image_figure


def roundtrip(originals: np.ndarray, latents: np.ndarray, decoded: np.ndarray) -> Any:
    """A Figure with a row for each image: the image, its x_T, and the image decoded from it; uint8 [R, H, W, C] each.

    The last column is the error |decoded - original|, ten times as bright.
    """
    error = 10 * np.abs(decoded.astype(int) - originals.astype(int))
    cells = np.stack([originals, latents, decoded, np.minimum(error, 255).astype(np.uint8)], axis=1)
    return image_figure(cells, ["original", "x_T", "decoded", "error x 10"], gaps=[3], wide=480)
