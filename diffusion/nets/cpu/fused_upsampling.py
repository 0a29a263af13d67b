"""The 3x3 convolution of an image whose pixels were repeated 2x2, without the repeated image.

Weights that meet copies of one pixel are added up first: a result in an even row uses the rows K_0 and K_1 + K_2 of
the kernel, one in an odd row K_0 + K_1 and K_2; columns likewise. This leaves four convolutions of 2x2 weights, one for
each place in a 2x2 cell: 4/9 of the products.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PLACES = (0, 1)
"""Even and odd rows, or columns, of the result."""


def conv_of_repeated(x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C D"]) -> Float[Array, "B 2*H 2*W D"]:
    """conv(repeat(x, 2x2), kernel), padded by one pixel on each side, up to rounding; in the type of x.

    Weights are added up in the type of the kernel.
    """
    B, H, W, _ = x.shape
    rows = [[_at(x, summed(summed(kernel, i, 0), j, 1), i, j) for j in PLACES] for i in PLACES]
    cells = jnp.stack([jnp.stack(row, axis=3) for row in rows], axis=2)
    return cells.reshape(B, 2 * H, 2 * W, kernel.shape[-1])


def summed(kernel: Float[Array, "*K"], place: int, axis: int) -> Float[Array, "*L"]:
    """The kernel with those two of its three slices along an axis added up that meet the same pixel at this place."""
    first, middle, last = (jax.lax.index_in_dim(kernel, i, axis) for i in range(3))
    return jnp.concatenate([first + middle, last] if place else [first, middle + last], axis)


def _at(x: Array, kernel: Array, i: int, j: int) -> Array:
    """Results at the place (i, j) of each cell: an even one also reads the pixel before, an odd one the pixel after."""
    padding, kernel = ((1 - i, i), (1 - j, j)), kernel.astype(x.dtype)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
