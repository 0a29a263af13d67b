"""The names of the code of Nichol & Dhariwal 2021 (improved-diffusion), and its files of weights.

Queries, keys and values come from one map there. Its 3C outputs are ordered by head first, and within a head by query,
key and value: the order of the released weights.
"""

import re
from pathlib import Path

from diffusion.convert import torch_file
from diffusion.convert.contents_of_weight_file import AS_IT_IS, ForeignWeights, axis
from diffusion.convert.name_mapping import CONVOLUTION, TRANSPOSED, Naming, pointwise

WHAT = "a U-Net of improved-diffusion"
LABELS = "label_emb.weight"

NAMING = Naming(
    modules={
        "time_1": "time_embed.0",
        "time_2": "time_embed.2",
        "label": "label_emb",
        "conv_in": "input_blocks.0.0",
        "down_block": "input_blocks.{input}.0",
        "down_attention": "input_blocks.{input}.1",
        "down_downsample": "input_blocks.{input}.0.op",
        "middle_block_1": "middle_block.0",
        "middle_attention": "middle_block.1",
        "middle_block_2": "middle_block.2",
        "up_block": "output_blocks.{output}.0",
        "up_attention": "output_blocks.{output}.1",
        "up_upsample": "output_blocks.{output}.{after}.conv",
        "norm_out": "out.0",
        "conv_out": "out.2",
    },
    layers={
        **{"": "", "conv": "", "norm": "norm", "q": "qkv", "k": "qkv", "v": "qkv", "proj": "proj_out"},
        **{"norm_1": "in_layers.0", "conv_1": "in_layers.2", "time": "emb_layers.1", "norm_2": "out_layers.0"},
        **{"conv_2": "out_layers.3", "shortcut": "skip_connection"},
    },
    leaves={"kernel": "weight", "embedding": "weight", "bias": "bias", "norm.scale": "weight", "norm.bias": "bias"},
    separator=".",
    kernels={"shortcut": pointwise(2), "proj": pointwise(1), 4: CONVOLUTION, 2: TRANSPOSED},
)

STEP = re.compile(r"(?:model|ema_[\d.]+_)(\d+)|.*_(\d+)K(?:_\w+)?")
"""Names that the code itself gives to its files, and those of released files, in thousands of steps."""


def step_of(stem: str) -> int | None:
    """Training steps by a file's name: 500,000 of ema_0.9999_500000 and of cifar10_uncond_50M_500K; else None."""
    found = STEP.fullmatch(stem)
    return found and (int(found[1]) if found[1] else 1000 * int(found[2]))


def read(path: Path) -> ForeignWeights:
    """A state dict as saved by that code, averaged (ema_0.9999_500000.pt) or raw (model500000.pt).

    Raises ValueError where the file is damaged or holds something else.
    """
    tensors = torch_file.read(path)
    channels = axis(tensors, "input_blocks.0.0.weight", 1, WHAT)
    learned = axis(tensors, "out.2.weight", 0, WHAT) > channels
    classes = axis(tensors, LABELS, 0, WHAT) if LABELS in tensors else 0
    settings = {**AS_IT_IS, "net.convention": "improved", "net.class_conditional": classes > 0}
    settings |= {"diffusion.variance": "learned_range"} if learned else {}
    settings |= {"net.label_dropout": 0.0} if classes else {}  # that code has no null label
    return ForeignWeights(
        ema=tensors,
        raw=tensors,
        naming=NAMING,
        settings=settings,
        channels=channels,
        classes=classes,
        step=step_of(path.stem),
        unspecified="the attention heads, the schedule, its steps, whether time is rescaled"
        + ("" if learned else " and the variance"),
    )
