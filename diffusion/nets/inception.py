"""Inception v3 as the FID knows it: TensorFlow's graph of 2015-12-05, batch norm folded into the convolutions.

It is not the Inception v3 of today's libraries: 3x3 average pools leave the padding out of the count, the last block
has a max pool where the paper (Szegedy et al. 2016) has an average pool, and there are 1008 classes. Layers are named
as in the graph, with "_" for "/".
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8

from diffusion.nets.blocks import Features

CLASSES = 1008

WIDTHS = {"768": 768, "1280": 1280, "2048": 2048, "logits": CLASSES, "logits_unbiased": CLASSES}
"""What the network offers, each needing the weights of those before it: means over the image of mixed_7, of mixed_8 and
of mixed_10 (pool_3), then the classes' logits, with and without the bias."""

LAYERS = tuple(WIDTHS)

SIZE = 299
"""Height and width of the images that the network was trained on."""

SMALLEST = 75
"""The least height and width for which every layer is a pixel or more."""

HIGHEST = jax.lax.Precision.HIGHEST
"""Without it, accelerators round float32 to 10 bits or fewer, which moves an FID in its third digit."""

Conv = Callable[..., Features]
"""(h, name, features, kernel, stride, padding) -> relu(convolution + bias)."""


class Logits(nn.Module):
    """x w and x w + b."""

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> tuple[Float[Array, "B K"], Float[Array, "B K"]]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], CLASSES))
        bias = self.param("bias", nn.initializers.zeros_init(), (CLASSES,))
        unbiased = jnp.dot(x, kernel, precision=HIGHEST)
        return unbiased, unbiased + bias[None]


class Inception(nn.Module):
    """Images, as `preprocess` makes them, to the features named in `layers`: each float32 [B, its width].

    Nothing past the last of `layers` is computed, nor are weights for it expected. Images may have any size from 75x75,
    but features mean what the FID takes them to mean at 299x299 only. `dtype` is the type of the convolutions and of
    the activations between them; pooling into features and the logits are float32. Raises ValueError for a layer that
    there is not.
    """

    layers: tuple[str, ...] = LAYERS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> dict[str, Float[Array, "B _D"]]:
        if unknown := set(self.layers) - set(LAYERS):
            raise ValueError(f"Inception has no layer {', '.join(sorted(unknown))}: choose from {', '.join(LAYERS)}")

        def conv(h: Features, name: str, features: int, kernel=(1, 1), stride: int = 1, padding="SAME") -> Features:
            layer = nn.Conv(features, kernel, stride, padding, dtype=self.dtype, precision=HIGHEST, name=name)
            return nn.relu(layer(h))

        h, features = x, {}
        for layer, part in PARTS.items():
            h = part(conv, h)
            features[layer] = h.astype(jnp.float32).mean(axis=(1, 2))
            if features.keys() >= set(self.layers):
                break
        else:
            features["logits_unbiased"], features["logits"] = Logits(name="softmax")(features["2048"])
        return {layer: features[layer] for layer in self.layers}


def tower(conv: Conv, h: Features, name: str, *steps: tuple[Any, ...]) -> Features:
    """Convolutions NAME_conv, NAME_conv_1, NAME_conv_2, ... one after the other."""
    for i, step in enumerate(steps):
        h = conv(h, f"{name}_conv_{i}" if i else f"{name}_conv", *step)
    return h


average = partial(nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False)
"""The mean of the pixels of each 3x3 window that lie in the image: 4 in a corner, 6 at an edge, 9 inside."""

maximum = partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
"""The maximum of each 3x3 window."""

reduced = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="VALID")
"""The maximum of every other 3x3 window, windows that reach over the edge left out."""


def joined(*parts: Features) -> Features:
    """The channels of all parts."""
    return jnp.concatenate(parts, axis=-1)


def stem(conv: Conv, h: Features) -> Features:
    """299x299 to 35x35."""
    h = conv(h, "conv", 32, (3, 3), 2, "VALID")
    h = conv(h, "conv_1", 32, (3, 3), 1, "VALID")
    h = reduced(conv(h, "conv_2", 64, (3, 3)))
    h = conv(h, "conv_3", 80)
    return reduced(conv(h, "conv_4", 192, (3, 3), 1, "VALID"))


def block_35(conv: Conv, h: Features, name: str, pooled: int) -> Features:
    """A block at 35x35, of 224 + pooled channels."""
    return joined(
        conv(h, f"{name}_conv", 64),
        tower(conv, h, f"{name}_tower", (48,), (64, (5, 5))),
        tower(conv, h, f"{name}_tower_1", (64,), (96, (3, 3)), (96, (3, 3))),
        tower(conv, average(h), f"{name}_tower_2", (pooled,)),
    )


def block_17(conv: Conv, h: Features, name: str, inner: int) -> Features:
    """A block at 17x17, of 768 channels, with 7x7 windows as 1x7 and 7x1 ones."""
    wide, high = (1, 7), (7, 1)
    long = ((inner,), (inner, high), (inner, wide), (inner, high), (192, wide))
    return joined(
        conv(h, f"{name}_conv", 192),
        tower(conv, h, f"{name}_tower", (inner,), (inner, wide), (192, high)),
        tower(conv, h, f"{name}_tower_1", *long),
        tower(conv, average(h), f"{name}_tower_2", (192,)),
    )


def block_8(conv: Conv, h: Features, name: str, pool: Callable[[Features], Features]) -> Features:
    """A block at 8x8, of 2048 channels, in which two towers end side by side in a 1x3 and a 3x1 convolution."""
    a = tower(conv, h, f"{name}_tower", (384,))
    b = tower(conv, h, f"{name}_tower_1", (448,), (384, (3, 3)))
    ends = [
        conv(part, f"{name}_{which}_mixed_{end}", 384, kernel)
        for part, which in ((a, "tower"), (b, "tower_1"))
        for end, kernel in (("conv", (1, 3)), ("conv_1", (3, 1)))
    ]
    return joined(
        conv(h, f"{name}_conv", 320),
        *ends,
        tower(conv, pool(h), f"{name}_tower_2", (192,)),
    )


def to_mixed_7(conv: Conv, h: Features) -> Features:
    """From the image to 768 channels at 17x17."""
    h = stem(conv, h)
    for name, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        h = block_35(conv, h, name, pooled)
    h = joined(
        conv(h, "mixed_3_conv", 384, (3, 3), 2, "VALID"),
        tower(conv, h, "mixed_3_tower", (64,), (96, (3, 3)), (96, (3, 3), 2, "VALID")),
        reduced(h),
    )
    for name, inner in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        h = block_17(conv, h, name, inner)
    return h


def to_mixed_8(conv: Conv, h: Features) -> Features:
    """17x17 to 1280 channels at 8x8."""
    last = ((3, 3), 2, "VALID")
    return joined(
        tower(conv, h, "mixed_8_tower", (192,), (320, *last)),
        tower(conv, h, "mixed_8_tower_1", (192,), (192, (1, 7)), (192, (7, 1)), (192, *last)),
        reduced(h),
    )


def to_mixed_10(conv: Conv, h: Features) -> Features:
    """1280 to 2048 channels at 8x8."""
    return block_8(conv, block_8(conv, h, "mixed_9", average), "mixed_10", maximum)


PARTS = {"768": to_mixed_7, "1280": to_mixed_8, "2048": to_mixed_10}


@cache
def shapes(layers: tuple[str, ...] = LAYERS) -> dict[str, tuple[int, ...]]:
    """The weights that `layers` need: NAME/w, [height, width, inputs, outputs], softmax's the last two; NAME/b."""
    x = jax.ShapeDtypeStruct((1, SMALLEST, SMALLEST, 3), jnp.float32)
    params = jax.eval_shape(Inception(layers).init, jax.random.key(0), x)["params"]
    return {f"{name}/{short}": leaf[long].shape for name, leaf in params.items() for short, long in PARAMETERS.items()}


PARAMETERS = {"w": "kernel", "b": "bias"}


def variables(weights: Mapping[str, np.ndarray], layers: tuple[str, ...] = LAYERS) -> dict[str, Any]:
    """What Inception(layers).apply takes, from weights by the names of `shapes`; it may be given more than it needs."""
    params: dict[str, Any] = {}
    for key in shapes(layers):
        name, short = key.split("/")
        params.setdefault(name, {})[PARAMETERS[short]] = weights[key]
    return {"params": params}


def preprocess(pixels: UInt8[Array, "B _H _W _C"], size: int = SIZE) -> Features:
    """uint8 images of any size, grey or RGB, to what the network takes: (resize(x) - 128) / 128 in three channels."""
    x = (resize(pixels.astype(jnp.float32), size) - 128) / 128
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


def resize(x: Features, size: int) -> Features:
    """Bilinear interpolation as in TensorFlow 1: pixel i of the result lies at i * (old size / new size) of the input.

    That is align_corners=False and half_pixel_centers=False; there is no filter against aliasing. Positions are float32
    as in TensorFlow; columns are interpolated first.
    """
    first, second, weight = _neighbours(x.shape[2], size)
    x = x[:, :, first] + (x[:, :, second] - x[:, :, first]) * weight[None, None, :, None]
    first, second, weight = _neighbours(x.shape[1], size)
    return x[:, first] + (x[:, second] - x[:, first]) * weight[None, :, None, None]


def _neighbours(old: int, new: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For every pixel of a resized axis: the two pixels that it lies between, and how far it is from the first."""
    position = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    first = np.floor(position).astype(np.int32)
    return first, np.minimum(first + 1, old - 1), position - first.astype(np.float32)
