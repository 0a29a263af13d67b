"""The U-Net of Ho et al. 2020, with the options of Nichol & Dhariwal 2021."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from diffusion.core.array_types import Condition, Labels, PerExample, Time
from diffusion.nets.blocks import (
    INIT_LAST,
    AttentionBlock,
    Features,
    ResBlock,
    Upsample,
    conv,
    dense,
    depth_to_space,
    group_norm,
    way_down,
)
from diffusion.nets.conventions_of_ddpm_and_improved_unets import ORIGINAL, Convention
from diffusion.nets.network_interface import Net, conditioned, labelled


class UNet(Net):
    """[B, H, W, C] images, [B] times, optional [B] labels to [B, H, W, out_channels] (Ho et al. 2020, app. B).

    Residual blocks at len(multipliers) resolutions, each half the last: `blocks` of them on the way down, two in the
    middle, `blocks + 1` on the way up, where the input of every block is concatenated with the activations of one step
    of the way down. At level l the width is channels * multipliers[l]. An attention block follows every residual block
    at the heights in `attention`, down and up; one more stands in the middle. The defaults are the CIFAR-10 network of
    the paper, 35,746,307 parameters; its 256x256 one has multipliers (1, 1, 2, 2, 4, 4) and dropout 0: 113,673,219.

    From Nichol & Dhariwal 2021: more attention heads, and resolutions; `scale_shift`, by which the embedding scales and
    shifts the second norm of each residual block instead of being added before it; `classes`, a learned vector per
    class added to the embedding of time. A network with learned variances has twice the image's channels as
    `out_channels`.

    With `block_size` b > 1, squares of b x b pixels are the channels of one: the levels begin at H / b x W / b, which
    makes a wide network cheap. The 256x256 networks of the published code have this option, and leave it at 1.

    `t` is what the network was trained on: 0 .. T - 1 for the published ones, unscaled, or fractional.

    Parameters are float32. With compute_dtype=bfloat16 the body computes in bfloat16; norms, softmax, the embedding of
    time and the last convolution, cheap all four, stay in float32, so that the output is not rounded to 8 bits. With
    remat=True residual and attention blocks are recomputed in the backward pass: less memory, more time, same result.

    Raises ValueError for an image that cannot be halved often enough, for a label given to a network without classes or
    missing from one with classes, and for heads that do not divide the width of an attention block. A label
    outside 0 .. classes - 1 (with `null_label`, 0 .. classes) cannot raise inside jit: it makes its example NaN
    (negative ones count from the end).
    """

    out_channels: int = 3
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    dropout: float = 0.1
    heads: int = 1
    scale_shift: bool = False
    compute_dtype: Any = jnp.float32
    remat: bool = False
    convention: Convention = ORIGINAL
    block_size: int = 1

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
        self._check(x.shape[1], x.shape[2])
        dtype, (eps, time_embedding, _) = self.compute_dtype, self.convention
        # argument 3 of ResBlock.__call__, counting self, is `train`: a Python bool that decides what is traced
        res_block = nn.remat(ResBlock, static_argnums=(3,)) if self.remat else ResBlock
        attention_block = nn.remat(AttentionBlock) if self.remat else AttentionBlock

        def block(h: Features, width: int, name: str) -> Features:
            return res_block(width, self.dropout, self.scale_shift, dtype, eps, name=name)(h, emb, train)

        def attend(h: Features, name: str) -> Features:
            return attention_block(self.heads, dtype, eps, name=name)(h)

        emb = conditioned(time_embedding(t, self.channels), condition)
        emb = dense(4 * self.channels, jnp.float32, "time_1")(emb)
        emb = dense(4 * self.channels, jnp.float32, "time_2")(nn.swish(emb))
        emb = labelled(emb, label, self)

        widths = [self.channels * multiplier for multiplier in self.multipliers]
        skips = way_down(self, x, block, attend)

        h = block(skips[-1], widths[-1], "middle_block_1")
        h = attend(h, "middle_attention")
        h = block(h, widths[-1], "middle_block_2")

        for level, width in reversed(list(enumerate(widths))):
            for i in range(self.blocks + 1):
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), width, f"up_{level}_block_{i}")
                if h.shape[1] in self.attention:
                    h = attend(h, f"up_{level}_attention_{i}")
            if level > 0:
                h = Upsample(dtype, name=f"up_{level}_upsample")(h)
        assert not skips

        h = group_norm(h.shape[-1], "norm_out", eps).swish(h, jnp.float32)
        h = conv(self.out_channels * self.block_size**2, jnp.float32, "conv_out", INIT_LAST)(h)
        return depth_to_space(h, self.block_size)

    def _check(self, height: int, width: int) -> None:
        unit = self.block_size * 2 ** (len(self.multipliers) - 1)
        if height % unit or width % unit:
            blocks = f"cut into blocks of {self.block_size} and " if self.block_size > 1 else ""
            raise ValueError(
                f"images of {height}x{width} cannot be {blocks}halved {len(self.multipliers) - 1} times: height and "
                f"width must be multiples of {unit}; resize the images or give fewer multipliers than "
                f"{self.multipliers}"
            )
