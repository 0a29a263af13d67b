"""A residual network without convolutions, for data that are points rather than images."""

import jax.numpy as jnp
from flax import linen as nn

from diffusion.core.array_types import Condition, Labels, PerExample, Time
from diffusion.nets.blocks import INIT_LAST, Features, dense
from diffusion.nets.dropout import Dropout
from diffusion.nets.embedding import time_embedding
from diffusion.nets.network_interface import Net, conditioned, labelled

FREQUENCIES = (2.0, 4.0, 8.0, 16.0)
"""Frequencies of the Fourier features of x; data lie in [-1, 1], and the shortest wave has length 0.4."""


class MLP(Net):
    """[B, H, W, C] points (images of a few pixels), [B] times and optional [B] labels to [B, H, W, out_channels].

    All dimensions of an example form one vector x. The input is x with the Fourier features sin(f x) and cos(f x), f in
    FREQUENCIES, without which fine shapes are learnt slowly (Tancik et al. 2020). The layers are

        h = affine(input)                                                       `channels` wide
        h = h + affine(swish(affine(swish(h)) + affine(embedding)))             `blocks` times
        return affine(swish(h))                                                 close to 0 at the start

    The embeddings of time and class are those of the U-Net.

    Raises ValueError for a label given to a network without classes or missing from one with classes.
    """

    out_channels: int = 1
    channels: int = 128
    blocks: int = 3
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Features,
        t: Time | PerExample,
        label: Labels | None = None,
        condition: Condition | None = None,
        *,
        train: bool = False,
    ) -> Features:
        emb = conditioned(time_embedding(t, self.channels), condition)
        emb = dense(self.channels, jnp.float32, "time_1")(emb)
        emb = nn.swish(labelled(emb, label, self))

        flat = x.reshape(len(x), -1)
        waves = [wave(f * flat) for f in FREQUENCIES for wave in (jnp.sin, jnp.cos)]
        h = dense(self.channels, jnp.float32, "dense_in")(jnp.concatenate([flat, *waves], axis=1))
        for i in range(self.blocks):
            inner = dense(self.channels, jnp.float32, f"block_{i}_1")(nn.swish(h))
            inner = nn.swish(inner + dense(self.channels, jnp.float32, f"block_{i}_time")(emb))
            inner = Dropout(self.dropout)(inner, deterministic=not train)
            h += dense(self.channels, jnp.float32, f"block_{i}_2")(inner)

        numbers = x[0, ..., 0].size * self.out_channels
        out = dense(numbers, jnp.float32, "dense_out", INIT_LAST)(nn.swish(h))
        return out.reshape(*x.shape[:-1], self.out_channels)
