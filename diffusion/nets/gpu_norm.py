"""GroupNorm and swish for GPUs: statistics in one pass over memory, and gradients in two.

Flax's norm reads the activations twice for their statistics, and jax's derivatives of it are a dozen kernels that write
what lies between them. Here a norm is three kernels and its gradient four; activations stay in the type that they come
in. Optimisation barriers stand where XLA would write an array that is cheaper to compute twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffusion.nets.blocks import Norm, ResBlock

Maps = Float[Array, "B H W C"]
PerMap = Float[Array, "B C"]
PerGroup = Float[Array, "B 1 1 C"]
"""A number per image and group, repeated for the channels of the group."""
PerChannel = Float[Array, " C"]


@contextmanager
def gpu_norms(train: bool) -> Iterator[None]:
    """Inside, traced norms are those of this file; with `train` they have gradients of reverse mode alone."""
    forms = (trained, written) if train else (plain, jax.lax.optimization_barrier)
    with nn.intercept_methods(partial(_replace, *forms)):
        yield


@jax.custom_vjp
def written(x: Maps) -> Maps:
    """x, in memory once for all its readers; its gradient need not be."""
    return jax.lax.optimization_barrier(x)


written.defvjp(lambda x: (written(x), None), lambda _, g: (g,))


class Form(NamedTuple):
    """What is computed of a norm."""

    groups: int
    eps: float
    swish: bool
    """Whether swish follows."""
    dtype: Any
    """Of the result."""


class Statistics(NamedTuple):
    """Of the groups of an image."""

    mean: PerGroup
    inverse: PerGroup
    """1 / sqrt(var + eps)"""
    centre: Float[Array, "B 1 1 C"]
    """The mean of each channel."""


def statistics(form: Form, h: Maps) -> Statistics:
    """Of h in one pass, in float32: var = <(h - s)^2> - <h - s>^2 about a shift s, the group's first number.

    No digits are lost however far the mean is from 0, unless s itself is many deviations from it.
    """
    _, H, W, C = h.shape
    shift = jax.lax.stop_gradient(h[:, 0, 0, :: C // form.groups].astype(jnp.float32))
    away = h.astype(jnp.float32) - _spread(shift, C)
    sums = away.sum((1, 2)), jnp.square(away).sum((1, 2))
    first, second = _means(form.groups, H * W, *sums)
    inverse = jax.lax.rsqrt(jnp.maximum(second - jnp.square(first), 0.0) + form.eps)
    return Statistics(_spread(shift + first, C), _spread(inverse, C), _spread(shift, C) + _wide(sums[0] / (H * W)))


def _means(groups: int, pixels: int, *sums: PerMap) -> list[Float[Array, "B G"]]:
    """The means over a group's pixels and channels, of sums over the pixels, in one kernel."""
    B, C = sums[0].shape
    rows, zeros = tuple(x.reshape(B, groups, -1) for x in sums), tuple(jnp.zeros((), x.dtype) for x in sums)
    totals = jax.lax.reduce(rows, zeros, lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)), (2,))
    return [x / (pixels * (C // groups)) for x in totals]


def _spread(values: Float[Array, "B G"], channels: int) -> PerGroup:
    return values.repeat(channels // values.shape[1], axis=1)[:, None, None]


def _wide(values: PerChannel | PerMap) -> PerGroup:
    """Numbers of channels, or of an image's channels, for every pixel."""
    return values.reshape(-1, 1, 1, values.shape[-1])


def _sum(h: Maps, plus: PerGroup | None) -> Maps:
    return h if plus is None else h + plus


def plain(form: Form, h: Maps, plus: PerGroup | None, scale: PerChannel, bias: PerChannel) -> Maps:
    """x scale + bias of x = (h + plus - mean) / sqrt(var + eps), Wu & He 2018, or swish of it; any derivative."""
    return _forward(form, h, plus, scale, bias)[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def trained(form: Form, h: Maps, plus: PerGroup | None, scale: PerChannel, bias: PerChannel) -> Maps:
    """plain, whose gradients are those of nets/cpu/layers.py's group_norm, and swish's."""
    return plain(form, h, plus, scale, bias)


Residuals = tuple[Maps, PerGroup | None, Statistics, PerChannel, PerChannel]


def _forward(form: Form, h: Maps, plus: PerGroup | None, scale: PerChannel, bias: PerChannel) -> tuple[Maps, Residuals]:
    if plus is not None:  # else cuDNN adds it to the convolution, as an array of the size of h
        h = jax.lax.optimization_barrier(h)
    found = statistics(form, _sum(h, plus))
    y = (_sum(h, plus).astype(jnp.float32) - found.mean) * found.inverse * _wide(scale) + _wide(bias)
    return (nn.swish(y) if form.swish else y).astype(form.dtype), (h, plus, found, scale, bias)


def _back(form: Form, residuals: Residuals, g: Maps) -> tuple[Maps, PerGroup | None, PerChannel, PerChannel]:
    """Two passes: sums of of_y and of_y x over pixels, of_y the gradient of x scale + bias; then the gradient of h."""
    h, plus, (mean, inverse, centre), scale, bias = residuals
    pixels, g = h.shape[1] * h.shape[2], g.astype(jnp.float32)

    def normal(h: Maps) -> tuple[Maps, Maps]:
        x = (_sum(h, plus).astype(jnp.float32) - mean) * inverse
        return x, x * _wide(scale) + _wide(bias)

    # h anew for each sum and for the gradient, once g is known: XLA would write what two of them, or the output, share
    h_1, h_2, _ = jax.lax.optimization_barrier((h, h, g[0, 0, 0, 0]))
    (_, y), (x, same) = normal(h_1), normal(h_2)
    sums = (g * slope_of_swish(y), g * x * slope_of_swish(same)) if form.swish else (g, g * x)
    h, (of_bias, of_scale) = jax.lax.optimization_barrier((h, tuple(a.sum((1, 2)) for a in sums)))
    x, y = normal(h)
    of_y = g * slope_of_swish(y) if form.swish else g
    means = _means(form.groups, pixels, of_bias * scale[None], of_scale * scale[None])
    first, second = (_spread(value, h.shape[-1]) for value in means)
    of_h = jax.lax.optimization_barrier((inverse * (of_y * _wide(scale) - first - x * second)).astype(h.dtype))
    of_plus = inverse * (_wide(of_bias * scale[None]) - pixels * (first + (centre - mean) * inverse * second))
    return of_h, None if plus is None else of_plus.astype(plus.dtype), of_scale.sum(0), of_bias.sum(0)


def slope_of_swish(y: Maps) -> Maps:
    """d (y s(y)) / dy = s + y (s - s^2), s the logistic function."""
    s = 0.5 * jnp.tanh(0.5 * y) + 0.5
    return s + y * (s - jnp.square(s))


trained.defvjp(_forward, _back)


CALL, SWISH = "__call__", Norm.swish.__name__


def _replace(
    norm: Callable[..., Any],
    once: Callable[[Maps], Maps],
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: nn.module.InterceptorContext,
) -> Any:
    layer: Any = context.module
    if isinstance(layer, ResBlock) and context.method_name == CALL:  # both its norm and its shortcut read it
        return call(once(args[0]), *args[1:], **kwargs)
    swish = context.method_name == SWISH
    if type(layer) is not Norm or not (swish or context.method_name == CALL) or layer.is_initializing():
        return call(*args, **kwargs)
    assert layer.num_groups is not None
    form = Form(layer.num_groups, layer.epsilon, swish, args[1] if swish else jnp.float32)
    params = layer.variables["params"]
    return norm(form, args[0], kwargs.get("plus"), params["scale"], params["bias"])
