"""A classifier of noised images: the downsampling half of the U-Net, then pooling."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffusion.core.array_types import PerExample, Time
from diffusion.nets.blocks import AttentionBlock, Features, ResBlock, dense, group_norm, way_down
from diffusion.nets.conventions_of_ddpm_and_improved_unets import ORIGINAL, Convention

Logits = Float[Array, "B K"]


class Classifier(nn.Module):
    """[B, H, W, C] noised images and [B] times to [B, classes] logits (Dhariwal & Nichol 2021, section 4).

    Blocks, embedding of time and attention are those of UNet up to its middle. Then follow norm, swish, the mean over
    all pixels and an affine map; the published classifier pools by attention instead. Parameters, norms and the last
    map are float32 for every compute_dtype. Options have the same meaning as in UNet.
    """

    classes: int
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    dropout: float = 0.1
    heads: int = 1
    scale_shift: bool = False
    compute_dtype: Any = jnp.float32
    convention: Convention = ORIGINAL
    block_size: int = 1

    @nn.compact
    def __call__(self, x: Features, t: Time | PerExample, *, train: bool = False) -> Logits:
        dtype, (eps, time_embedding, _) = self.compute_dtype, self.convention
        emb = dense(4 * self.channels, jnp.float32, "time_1")(time_embedding(t, self.channels))
        emb = dense(4 * self.channels, jnp.float32, "time_2")(nn.swish(emb))

        def block(h: Features, width: int, name: str) -> Features:
            return ResBlock(width, self.dropout, self.scale_shift, dtype, eps, name=name)(h, emb, train)

        def attend(h: Features, name: str) -> Features:
            return AttentionBlock(self.heads, dtype, eps, name=name)(h)

        h = way_down(self, x, block, attend)[-1]
        h = block(h, self.channels * self.multipliers[-1], "middle_block")
        pooled = group_norm(h.shape[-1], "norm_out", eps).swish(h, jnp.float32).mean(axis=(1, 2))
        return dense(self.classes, jnp.float32, "logits")(pooled)
