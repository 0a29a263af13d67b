"""The parts of the U-Net: residual block, attention block, the two changes of resolution, and how each is initialised.

Images are NHWC throughout. Parameters are float32. `dtype` is the type in which convolutions and matrix products are
computed and in which activations pass from block to block; normalisation and softmax are always float32.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffusion.nets.dropout import Dropout
from diffusion.nets.embedding import Embedding

Features = Float[Array, "B _H _W _C"]
"""Images and activations, B H W C: a block may change size and width, so only B is one number throughout."""

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Pixels added at the top and the bottom, at the left and the right."""

INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
"""U(-L, L) with L = sqrt(6 / (fan_in + fan_out)); the fans of a convolution count its window. Biases are 0."""

INIT_LAST = nn.initializers.variance_scaling(1e-10, "fan_avg", "uniform")
"""The same times 1e-5, for the last layer of a block and of the network: at the start every block is all but the
identity and the output all but 0, and yet, unlike with exact zeros, no gradient is exactly 0."""


def dense(features: int, dtype: Any, name: str, init: Any = INIT) -> nn.Dense:
    """Affine map of the channels: on images, a 1x1 convolution."""
    return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)


def conv(features: int, dtype: Any, name: str, init: Any = INIT) -> nn.Conv:
    """3x3 convolution with bias that keeps the size."""
    return nn.Conv(features, (3, 3), padding=((1, 1), (1, 1)), dtype=dtype, kernel_init=init, name=name)


def groups(channels: int) -> int:
    """Number of groups in which channels are normalised: the largest divisor up to 32 that gives a group two or more.

    That is 32 for every published network. Other widths get the nearest that works: 48 has 24 groups, 33 has 11, a
    prime has one. Groups have at least two channels, which matters for widths up to 32 alone: the norm of a single
    channel subtracts what is constant over the image, and with it the embedding of time that was just added.
    """
    return max(n for n in range(1, 33) if channels % n == 0 and (n == 1 or channels >= 2 * n))


class Norm(nn.GroupNorm):
    """GroupNorm with what stands around it, which nets/gpu_norm.py computes in the same kernels."""

    def swish(self, h: Features, dtype: Any, plus: Features | None = None) -> Features:
        """swish(norm(h + plus)) in a type; `plus` is a number for each image and channel."""
        return nn.swish(self(h if plus is None else h + plus).astype(dtype))


def group_norm(channels: int, name: str, eps: float = 1e-6) -> Norm:
    """GroupNorm in float32: (h - mean) / sqrt(var + eps) * scale + bias, statistics over H, W, the group's channels.

    The variance is mean((h - mean)^2), in two passes. Flax's default, mean(h^2) - mean(h)^2, loses every digit once
    the mean is some thousands of times the deviation.
    """
    return Norm(groups(channels), epsilon=eps, use_fast_variance=False, dtype=jnp.float32, name=name)


def space_to_depth(x: Features, b: int) -> Features:
    """[B, H, W, C] to [B, H / b, W / b, b b C]: the pixels of each b x b square, by rows, as channels of one pixel."""
    B, H, W, C = x.shape
    return x.reshape(B, H // b, b, W // b, b, C).swapaxes(2, 3).reshape(B, H // b, W // b, b * b * C)


def depth_to_space(x: Features, b: int) -> Features:
    """The inverse of space_to_depth: [B, h, w, b b C] to [B, h b, w b, C]."""
    B, h, w, D = x.shape
    return x.reshape(B, h, w, b, b, D // b**2).swapaxes(2, 3).reshape(B, h * b, w * b, D // b**2)


class ResBlock(nn.Module):
    """norm, swish, conv, + embedding, norm, swish, dropout, conv; added to the input, which a 1x1 map brings to width.

        h = conv_1(swish(norm_1(x)))
        h = norm_2(h + time(swish(emb)))                              Ho et al. 2020
        h = norm_2(h) (1 + s) + b,  [s, b] = time(swish(emb))         Nichol & Dhariwal 2021, with scale_shift
        return shortcut(x) + conv_2(dropout(swish(h)))

    The shortcut takes x itself, not its norm, and exists only where the width changes. Dropout (elementwise, inverted:
    what is kept is divided by the probability of being kept) acts when train is true, with the "dropout" random stream.
    """

    features: int
    dropout: float
    scale_shift: bool
    dtype: Any
    eps: float = 1e-6
    """Of both norms."""

    @nn.compact
    def __call__(self, x: Features, emb: Embedding, train: bool) -> Features:
        h = group_norm(x.shape[-1], "norm_1", self.eps).swish(x, self.dtype)
        h = conv(self.features, self.dtype, "conv_1")(h)
        emb, norm = nn.swish(emb)[:, None, None, :], group_norm(self.features, "norm_2", self.eps)
        if self.scale_shift:
            scale, shift = jnp.split(dense(2 * self.features, self.dtype, "time")(emb), 2, axis=-1)
            h = nn.swish((norm(h) * (1 + scale) + shift).astype(self.dtype))
        else:
            h = norm.swish(h, self.dtype, plus=dense(self.features, self.dtype, "time")(emb))
        h = Dropout(self.dropout)(h, deterministic=not train)
        h = conv(self.features, self.dtype, "conv_2", INIT_LAST)(h)
        if x.shape[-1] != self.features:
            x = dense(self.features, self.dtype, "shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """Every pixel attends to all pixels of its image; the result is added to the input. There is no position encoding.

        q, k, v = q(norm(x)), k(norm(x)), v(norm(x))                  three separate 1x1 maps with bias
        return x + proj(softmax(q k^T / sqrt(C / heads)) v)           per head; head i has the i-th C / heads channels

    The logits are accumulated, and the softmax taken, in float32.
    Raises ValueError if the heads do not divide the channels.
    """

    heads: int
    dtype: Any
    eps: float = 1e-6
    """Of the norm."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        B, H, W, C = x.shape
        if C % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide {C} channels: choose a divisor of {C}")
        h = group_norm(C, "norm", self.eps)(x).astype(self.dtype)
        q, k, v = (dense(C, self.dtype, name)(h).reshape(B, H * W, self.heads, C // self.heads) for name in "qkv")
        logits = jnp.einsum("bqnc,bknc->bnqk", q, k, preferred_element_type=jnp.float32)
        weights = nn.softmax(logits * (C // self.heads) ** -0.5).astype(self.dtype)
        h = jnp.einsum("bnqk,bknc->bqnc", weights, v).reshape(B, H, W, C)
        return x + dense(C, self.dtype, "proj", INIT_LAST)(h)


class Downsample(nn.Module):
    """Half the size: 3x3 convolution with stride 2, by default padded by one pixel at the bottom and the right only.

    That is what "SAME" padding means for even sizes, in TensorFlow and in JAX. PyTorch code that pads both sides
    computes something else with the same weights.
    """

    dtype: Any
    padding: Padding = ((0, 1), (0, 1))

    @nn.compact
    def __call__(self, x: Features) -> Features:
        down = nn.Conv(x.shape[-1], (3, 3), 2, self.padding, dtype=self.dtype, kernel_init=INIT, name="conv")
        return down(x)


class Upsample(nn.Module):
    """Twice the size: every pixel repeated 2x2, then a 3x3 convolution."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Features) -> Features:
        return conv(x.shape[-1], self.dtype, "conv")(x.repeat(2, axis=1).repeat(2, axis=2))


def way_down(
    net: Any, x: Features, block: Callable[[Features, int, str], Features], attend: Callable[[Features, str], Features]
) -> list[Features]:
    """The activations of a network with UNet's options down to its middle: of conv_in, each block and each Downsample.

    block(h, width, name) and attend(h, name) apply a residual and an attention block of the network.
    """
    down = [conv(net.channels, net.compute_dtype, "conv_in")(space_to_depth(x, net.block_size))]
    for level, multiplier in enumerate(net.multipliers):
        if level > 0:
            half = Downsample(net.compute_dtype, net.convention.padding, name=f"down_{level - 1}_downsample")
            down.append(half(down[-1]))
        for i in range(net.blocks):
            h = block(down[-1], net.channels * multiplier, f"down_{level}_block_{i}")
            down.append(attend(h, f"down_{level}_attention_{i}") if h.shape[1] in net.attention else h)
    return down
