"""The layers of the networks written out, for CPUs: the same values and gradients up to rounding.

The networks are Flax's layers as they read, in every mode and on every device. What XLA makes of them on a CPU is slow
in four places, by measurement: what is one number for a group of channels is looked up anew for every pixel; in
derivatives, sums over pixels walk through memory across its grain, gradients of 1x1 maps are first transposed, and sums
over a batch are windows. Inside `written_out` the layers that are traced compute those otherwise. Those gradients
are for reverse mode alone, so for training; in evaluation GroupNorm and Upsample alone are others, and differentiated
like anything else.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from diffusion.nets.blocks import Upsample
from diffusion.nets.cpu.upsampling import conv_of_repeated

CALL = "__call__"

Maps = Float[Array, "B H W C"]
Rows = Float[Array, "*_B C"]
PerMap = Float[Array, "B C"]
PerGroup = Float[Array, "B 1 1 C"]
"""A number of each image and group, repeated for the group's channels."""
PerChannel = Float[Array, " C"]
Kernel = Float[Array, "*_K"]


def over_pixels(x: Maps) -> PerMap:
    """The sum over H and W: first over H as a window, which runs along memory, then over the little that is left."""
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


def _affine_back(kept: tuple[Array, Kernel], g: Array) -> tuple[Array, Kernel]:
    """g kernel^T and x^T g, the latter with its rows contracted where they stand."""
    x, kernel = kept
    rows = x.reshape(-1, x.shape[-1])
    slope = jax.lax.dot_general(rows, g.reshape(-1, g.shape[-1]), (((0,), (0,)), ((), ())))
    return jax.lax.dot_general(g, kernel, (((g.ndim - 1,), (1,)), ((), ()))), slope


affine.defvjp(lambda x, kernel: (affine(x, kernel), (x, kernel)), _affine_back)


def group_mean(sums: PerMap, groups: int, pixels: int) -> PerGroup:
    """The mean over a group's pixels and channels, of sums over the pixels.

    Each channel adds up a window of its neighbours that is cut off where its group ends. So the mean stands in memory
    once for each channel, and what reads it need not look up the channel's group, pixel by pixel.
    """
    B, C = sums.shape
    n = C // groups
    rows, reach = sums.reshape(B, groups, n), ((0, 0), (0, 0), (n - 1, n - 1))
    found = jax.lax.reduce_window(rows, 0.0, jax.lax.add, (1, 1, 2 * n - 1), (1, 1, 1), reach)
    return found.reshape(B, 1, 1, C) / (pixels * n)


Kept = tuple[Maps, PerGroup, PerGroup, PerChannel]


def plain_group_norm(groups: int, eps: float, h: Maps, scale: PerChannel, bias: PerChannel) -> Maps:
    """group_norm with the gradients of what it is made of, in both modes."""
    return _group_norm(groups, eps, h, scale, bias)[0]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def group_norm(groups: int, eps: float, h: Maps, scale: PerChannel, bias: PerChannel) -> Maps:
    """x scale + bias, x = (h - mean) / sqrt(var + eps), statistics over H, W and the channels of a group. Wu & He 2018.

    With <.> the mean over a group and g the gradient of the result, the gradients are

        h: (g scale - <g scale> - x <g scale x>) / sqrt(var + eps);  scale: sum of g x;  bias: sum of g
    """
    return _group_norm(groups, eps, h, scale, bias)[0]


def _group_norm(groups: int, eps: float, h: Maps, scale: PerChannel, bias: PerChannel) -> tuple[Maps, Kept]:
    pixels = h.shape[1] * h.shape[2]
    mean = group_mean(over_pixels(h), groups, pixels)
    var = group_mean(over_pixels(jnp.square(h - mean)), groups, pixels)
    inverse = jax.lax.rsqrt(var + eps)
    return (h - mean) * (inverse * scale[None, None, None]) + bias[None, None, None], (h, mean, inverse, scale)


def _group_norm_back(groups: int, eps: float, kept: Kept, g: Maps) -> tuple[Maps, PerChannel, PerChannel]:  # noqa: ARG001
    h, mean, inverse, scale = kept
    pixels = h.shape[1] * h.shape[2]
    x = (h - mean) * inverse
    of_bias, of_scale = over_pixels(g), over_pixels(g * x)
    first, second = (group_mean(sums * scale[None], groups, pixels) for sums in (of_bias, of_scale))
    of_h = inverse * (g * scale[None, None, None] - first - x * second)
    return of_h, of_scale.sum(axis=0), of_bias.sum(axis=0)


group_norm.defvjp(_group_norm, _group_norm_back)


@contextmanager
def written_out(train: bool = True) -> Iterator[None]:
    """Inside, the layers of a network that is traced are those above, where they are of the kind that is written out.

    The others, and layers that are being initialised, are Flax's. Without `train` none has a gradient of its own.
    """
    with nn.intercept_methods(partial(_instead, FORMS if train else EVALUATED)):
        yield


TUNED: dict[str, Callable[[bool], AbstractContextManager[None]]] = {"cpu": written_out}
"""platform -> what its networks are traced in, given whether they train."""


def tuned(platform: str, train: bool) -> AbstractContextManager[None]:
    """What a network is traced in on devices of a platform; nothing where the plain layers are as fast."""
    return TUNED[platform](train) if platform in TUNED else nullcontext()


def _instead(
    forms: "Forms", call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    layer: Any = context.module
    form, fields = forms.get(type(layer), (None, {}))
    called = context.method_name == CALL and len(args) == 1 and not kwargs and args[0].ndim == 4
    if form is None or not called or layer.is_initializing():
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
    return norm(layer.num_groups, layer.epsilon, h.astype(jnp.float32), params["scale"], params["bias"])


def _upsample(add: Callable[[Array, Array], Array], layer: Upsample, x: Array, params: Any) -> Array:
    x, bias = promote_dtype(x, params["conv"]["bias"], dtype=layer.dtype)
    return add(conv_of_repeated(x, params["conv"]["kernel"]), bias)


Forms = dict[type, tuple[Callable[[Any, Array, Any], Array], dict[str, Any]]]
"""layer -> what stands for it, given (layer, input, its parameters), and what its fields must be."""

NORM = {"use_bias": True, "use_scale": True, "use_fast_variance": False, "reduction_axes": None, "group_size": None}
NORM |= {"dtype": jnp.float32, "axis_name": None}
"""What the fields of a norm that is written out must be."""

EVALUATED: Forms = {
    Upsample: (partial(_upsample, plus), {}),
    nn.GroupNorm: (partial(_norm, plain_group_norm), NORM),
}

FORMS: Forms = {
    Upsample: (partial(_upsample, add_bias), {}),
    nn.Dense: (_dense, {"use_bias": True, "precision": None, "dot_general": None, "dot_general_cls": None}),
    nn.Conv: (
        _conv,
        {"use_bias": True, "precision": None, "input_dilation": 1, "kernel_dilation": 1, "feature_group_count": 1}
        | {"mask": None, "conv_general_dilated": None, "conv_general_dilated_cls": None, "kernel_size": (3, 3)},
    ),
    nn.GroupNorm: (partial(_norm, group_norm), NORM),
}
