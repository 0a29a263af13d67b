"""Layers that compute in bfloat16 with gradients of their weights in float32: sums over examples lose no digits.

Flax's layers form these gradients in the type that they compute in. There a bias adds up the pixels of a whole batch in
bfloat16, and several devices add up their shares in bfloat16. Here the products are the same and their sums, within a
device and over devices, are float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

Slope = Callable[[Array, Array], Array]
"""(inputs, gradient of the output) -> gradient of the kernel, in float32."""


class Compiler(NamedTuple):
    """How these layers are written for a compiler."""

    library: bool = False
    """Whether a library convolves, as cuDNN does: it sums in float32 and writes the type of its inputs. For a result in
    float32 XLA would turn the inputs into float32."""
    by_device: Callable[[Slope], Slope] = lambda slope: slope
    """Makes each device form the gradient of its own rows, and adds them up."""
    whole: Callable[[Array], Array] | None = None
    """Gathers a kernel of which every device has a part, in the type of the products."""


PLAIN = Compiler()


@contextmanager
def float32_gradients(compiler: Compiler = PLAIN) -> Iterator[None]:
    """Inside, traced nn.Dense and nn.Conv that compute in bfloat16 have float32 gradients of kernel and bias."""
    with nn.intercept_methods(partial(_replace, compiler)):
        yield


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """x + bias in the type of x; the gradient of the bias is summed in float32."""
    return x + bias.astype(x.dtype).reshape(*(1,) * (x.ndim - 1), -1)


add_bias.defvjp(
    lambda x, bias: (add_bias(x, bias), None),
    lambda _, g: (g, jnp.sum(g, axis=tuple(range(g.ndim - 1)), dtype=jnp.float32)),
)


class Product(NamedTuple):
    """A bilinear map of inputs and a kernel, in one type."""

    of: Callable[[Array, Array], Array]
    slope: Slope
    whole: Callable[[Array], Array] | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def apply(product: Product, x: Array, kernel: Array) -> Array:
    """The product in the type of x; the kernel's gradient is formed by product.slope."""
    return product.of(x, kernel.astype(x.dtype))


def _back(product: Product, residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    (of_x,) = jax.linear_transpose(lambda x: product.of(x, kernel.astype(x.dtype)), x)(g)
    return of_x, product.slope(x, g)


def _forward(product: Product, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    if product.whole:
        kernel = product.whole(kernel.astype(x.dtype))
    return product.of(x, kernel.astype(x.dtype)), (x, kernel)


apply.defvjp(_forward, _back)


def _matrix(x: Array, kernel: Array) -> Array:
    return jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _matrix_slope(x: Array, g: Array) -> Array:
    """x^T g over all rows."""
    rows = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(x, g, ((rows, rows), ((), ())), preferred_element_type=jnp.float32)


Sides = tuple[tuple[int, int], tuple[int, int]]


def _window(strides: tuple[int, int], padding: Sides, x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _window_slope(
    library: bool, strides: tuple[int, int], padding: Sides, size: tuple[int, int], x: Array, g: Array
) -> Array:
    """sum over images and positions o of x[o stride + k - low] g[o], at each offset k of the kernel: a convolution of
    x with g as its kernel, images as its channels."""
    reach = [
        (low, k - n - low + (m - 1) * stride)
        for (low, _), k, n, m, stride in zip(padding, size, x.shape[1:3], g.shape[1:3], strides, strict=True)
    ]
    slope = jax.lax.conv_general_dilated(
        *(x, g, (1, 1), reach),
        rhs_dilation=strides,
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=None if library else jnp.float32,
    )
    return slope.astype(jnp.float32)


def _dense(compiler: Compiler, layer: nn.Dense, x: Array, params: Any) -> Array:  # noqa: ARG001
    product = Product(_matrix, compiler.by_device(_matrix_slope), compiler.whole)
    return add_bias(apply(product, x, params["kernel"]), params["bias"])


def _conv(compiler: Compiler, layer: Any, x: Array, params: Any) -> Array:
    kernel = params["kernel"]
    strides: Any = layer.strides if isinstance(layer.strides, tuple) else (layer.strides or 1,) * 2
    slope = partial(_window_slope, compiler.library, strides, layer.padding, kernel.shape[:2])
    product = Product(partial(_window, strides, layer.padding), compiler.by_device(slope), compiler.whole)
    return add_bias(apply(product, x, kernel), params["bias"])


CALL = "__call__"
FORMS: dict[type, Callable[[Compiler, Any, Array, Any], Array]] = {nn.Dense: _dense, nn.Conv: _conv}


def _replace(
    compiler: Compiler, call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    layer: Any = context.module
    form = FORMS.get(type(layer))
    if form is None or context.method_name != CALL or layer.dtype != jnp.bfloat16 or layer.is_initializing():
        return call(*args, **kwargs)
    (x,) = args
    return form(compiler, layer, x.astype(layer.dtype), layer.variables["params"])
