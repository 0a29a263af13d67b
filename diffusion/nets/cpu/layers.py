"""Faster layers for CPUs: values and gradients of Flax's layers up to rounding, and the same masks of dropout.

Networks are plain Flax on every device. Measurements show that XLA's code for them is slow on a CPU in five places. In
a normalisation each pixel looks up the one number of its group. Sums over pixels read memory in the wrong order.
Gradients of 1x1 maps transpose their inputs first. Sums over a batch become windows. Random bits are drawn in loops
over whole arrays. Inside `faster_layers` the traced layers compute these otherwise. With `train` gradients are written
out too, for reverse mode alone; in evaluation GroupNorm, Upsample and dropout differ, with every kind of derivative.

This is the one place where networks depend on this folder: experiment/layers_by_platform.py enters `faster_layers`,
unless config.net.cpu_layers is false.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from diffusion.nets.blocks import Norm, Upsample
from diffusion.nets.cpu.dropout_bits import bernoulli
from diffusion.nets.cpu.fused_upsampling import conv_of_repeated
from diffusion.nets.dropout import Dropout

CALL, MASK = "__call__", Dropout.mask.__name__

Maps = Float[Array, "B H W C"]
Rows = Float[Array, "*_B C"]
PerMap = Float[Array, "B C"]
PerGroup = Float[Array, "B 1 1 C"]
"""A number per image and group, repeated for the channels of the group."""
PerChannel = Float[Array, " C"]
Kernel = Float[Array, "*_K"]


def over_pixels(x: Maps) -> PerMap:
    """The sum over H and W: first over H as a window, which reads memory in order, then over W."""
    window = (1, x.shape[1], 1, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID").sum((1, 2))


def over_rows(x: Rows) -> PerChannel:
    """The sum over all but the channels, as a product with ones."""
    rows = x.reshape(-1, x.shape[-1])
    ones = jnp.ones(len(rows), x.dtype)
    return jax.lax.dot_general(ones, rows, (((0,), (0,)), ((), ())), precision="highest")


def plus(x: Rows, bias: PerChannel) -> Rows:
    """x + bias."""
    return x + bias.reshape(*(1,) * (x.ndim - 1), -1)


@jax.custom_vjp
def add_bias(x: Rows, bias: PerChannel) -> Rows:
    """x + bias, whose gradient is summed by over_rows."""
    return plus(x, bias)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), lambda _, g: (g, over_rows(g)))


@jax.custom_vjp
def affine(x: Array, kernel: Kernel) -> Array:
    """x @ kernel."""
    return jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _affine_back(residuals: tuple[Array, Kernel], g: Array) -> tuple[Array, Kernel]:
    """(g kernel^T, x^T g); the second contracts rows without a transposed copy."""
    x, kernel = residuals
    rows = x.reshape(-1, x.shape[-1])
    slope = jax.lax.dot_general(rows, g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())))
    return jax.lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ()))), slope


affine.defvjp(lambda x, kernel: (affine(x, kernel), (x, kernel)), _affine_back)


def group_mean(sums: PerMap, groups: int, pixels: int) -> PerGroup:
    """The mean over a group's pixels and channels, of sums over the pixels.

    Each channel adds up a window of its neighbours that ends where its group ends. So memory holds the mean once per
    channel, and readers need no lookup of the channel's group at every pixel.
    """
    B, C = sums.shape
    n = C // groups
    rows, reach = sums.reshape(B, groups, n), ((0, 0), (0, 0), (n - 1, n - 1))
    total = jax.lax.reduce_window(rows, 0.0, jax.lax.add, (1, 1, 2 * n - 1), (1, 1, 1), reach)
    return total.reshape(B, 1, 1, C) / (pixels * n)


Residuals = tuple[Maps, PerGroup, PerGroup, PerChannel]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def group_norm(groups: int, eps: float, h: Maps, scale: PerChannel, bias: PerChannel) -> Maps:
    """x scale + bias, x = (h - mean) / sqrt(var + eps), statistics over H, W and the channels of a group. Wu & He 2018.

    With <.> the mean over a group and g the gradient of the result, the gradients are

        h: (g scale - <g scale> - x <g scale x>) / sqrt(var + eps);  scale: sum of g x;  bias: sum of g
    """
    return _group_norm(groups, eps, h, scale, bias)[0]


def _group_norm(groups: int, eps: float, h: Maps, scale: PerChannel, bias: PerChannel) -> tuple[Maps, Residuals]:
    pixels = h.shape[1] * h.shape[2]
    mean = group_mean(over_pixels(h), groups, pixels)
    var = group_mean(over_pixels(jnp.square(h - mean)), groups, pixels)
    inverse = jax.lax.rsqrt(var + eps)
    return (h - mean) * (inverse * scale[None, None, None]) + bias[None, None, None], (h, mean, inverse, scale)


def _group_norm_back(groups: int, eps: float, residuals: Residuals, g: Maps) -> tuple[Maps, PerChannel, PerChannel]:  # noqa: ARG001
    h, mean, inverse, scale = residuals
    pixels = h.shape[1] * h.shape[2]
    x = (h - mean) * inverse
    of_bias, of_scale = over_pixels(g), over_pixels(g * x)
    first, second = (group_mean(sums * scale[None], groups, pixels) for sums in (of_bias, of_scale))
    of_h = inverse * (g * scale[None, None, None] - first - x * second)
    return of_h, of_scale.sum(axis=0), of_bias.sum(axis=0)


group_norm.defvjp(_group_norm, _group_norm_back)


@contextmanager
def faster_layers(train: bool) -> Iterator[None]:
    """Inside, traced layers of the kinds in FORMS (EVALUATED without `train`) are replaced by the functions above.

    Other layers, and layers that are being initialised, are Flax's.
    """
    with nn.intercept_methods(partial(_replace, FORMS if train else EVALUATED)):
        yield


def _replace(
    forms: "Forms", call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    layer: Any = context.module
    if isinstance(layer, Dropout) and context.method_name == MASK:
        key, shape = args
        return bernoulli(key, 1.0 - layer.rate, shape)
    form, fields = forms.get(type(layer), (None, {}))
    replaceable = context.method_name == CALL and len(args) == 1 and not kwargs and args[0].ndim == 4
    if form is None or not replaceable or layer.is_initializing():
        return call(*args, **kwargs)
    if any(getattr(layer, name) != value for name, value in fields.items()):
        return call(*args, **kwargs)
    return form(layer, args[0], layer.variables["params"])


def _dense(layer: nn.Dense, x: Array, params: Any) -> Array:
    x, kernel, bias = promote_dtype(x, params["kernel"], params["bias"], dtype=layer.dtype)
    return add_bias(affine(x, kernel), bias)


def _conv(layer: Any, x: Array, params: Any) -> Array:
    x, kernel, bias = promote_dtype(x, params["kernel"], params["bias"], dtype=layer.dtype)
    strides = layer.strides if isinstance(layer.strides, tuple) else (layer.strides or 1,) * 2
    y = jax.lax.conv_general_dilated(x, kernel, strides, layer.padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return add_bias(y, bias)


def _norm(norm: Callable[..., Any], layer: nn.GroupNorm, h: Array, params: Any) -> Array:
    assert layer.num_groups is not None
    h, scale, bias = promote_dtype(h, params["scale"], params["bias"], dtype=jnp.float32)
    return norm(layer.num_groups, layer.epsilon, h, scale, bias)


def _upsample(add: Callable[[Array, Array], Array], layer: Upsample, x: Array, params: Any) -> Array:
    x, bias = promote_dtype(x, params["conv"]["bias"], dtype=layer.dtype)
    return add(conv_of_repeated(x, params["conv"]["kernel"]), bias)


Forms = dict[type, tuple[Callable[[Any, Array, Any], Array], dict[str, Any]]]
"""layer -> its replacement, (layer, input, parameters) -> output, and required values of its fields."""

NORM = {"use_bias": True, "use_scale": True, "use_fast_variance": False, "reduction_axes": None, "group_size": None}
NORM |= {"dtype": jnp.float32, "axis_name": None}
"""Required values of the fields of a norm."""

EVALUATED: Forms = {
    Upsample: (partial(_upsample, plus), {}),
    Norm: (partial(_norm, lambda *arguments: _group_norm(*arguments)[0]), NORM),  # with jax's own derivatives
}

FORMS: Forms = {
    Upsample: (partial(_upsample, add_bias), {"dtype": jnp.float32}),  # others: gradients of nn.Conv
    nn.Dense: (_dense, {"use_bias": True, "precision": None, "dot_general": None, "dot_general_cls": None}),
    nn.Conv: (
        _conv,
        {"use_bias": True, "precision": None, "input_dilation": 1, "kernel_dilation": 1, "feature_group_count": 1}
        | {"mask": None, "conv_general_dilated": None, "conv_general_dilated_cls": None, "kernel_size": (3, 3)},
    ),
    Norm: (partial(_norm, group_norm), NORM),
}
