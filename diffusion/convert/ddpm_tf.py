"""The names of the original TensorFlow code of Ho et al. 2020, and its checkpoints.

Tensors are laid out as in our network: [height, width, in, out] and [in, out]. A checkpoint holds every variable three
more times: its moving average, and Adam's two moments.
"""

import re
from pathlib import Path

import numpy as np

from diffusion.convert import tensorflow_checkpoint
from diffusion.convert.contents_of_weight_file import AS_IT_IS, ForeignWeights, axis
from diffusion.convert.name_mapping import Naming

STEP = "global_step"
AVERAGE = "/ExponentialMovingAverage"
OPTIMIZER = re.compile(r"(.*/)?(Adam(_1)?|RMSProp(_1)?|Momentum|beta[12]_power|global_step)")
"""Variables of the optimiser, which are not imported."""
STEM = re.compile(r"(.*/)?conv_in/W")
WHAT = "a U-Net of the original code"

NAMING = Naming(
    modules={
        "time_1": "temb/dense0",
        "time_2": "temb/dense1",
        "label": "(no labels in the original code)",
        "conv_in": "conv_in",
        "down_block": "down_{level}/block_{index}",
        "down_attention": "down_{level}/attn_{index}",
        "down_downsample": "down_{level}/downsample",
        "middle_block_1": "mid/block_1",
        "middle_attention": "mid/attn_1",
        "middle_block_2": "mid/block_2",
        "up_block": "up_{level}/block_{index}",
        "up_attention": "up_{level}/attn_{index}",
        "up_upsample": "up_{level}/upsample",
        "norm_out": "norm_out",
        "conv_out": "conv_out",
    },
    layers={
        **{"": "", "conv": "conv", "norm": "norm", "q": "q", "k": "k", "v": "v", "proj": "proj_out"},
        **{"norm_1": "norm1", "conv_1": "conv1", "time": "temb_proj", "norm_2": "norm2", "conv_2": "conv2"},
        "shortcut": "nin_shortcut",
    },
    leaves={"kernel": "W", "embedding": "W", "bias": "b", "norm.scale": "gamma", "norm.bias": "beta"},
    separator="/",
    kernels={},
)


def read(path: Path) -> ForeignWeights:
    """A checkpoint: the prefix such as model.ckpt-790000, or any of its files.

    Averages and raw weights are read; the optimiser's variables, and those outside the network's scope, are not. The
    scope is recognised by the first convolution and dropped. Raises ValueError where the files are damaged, or hold
    something else.
    """
    bundle = tensorflow_checkpoint.open_bundle(path)
    wanted = [name for name in bundle.entries if not OPTIMIZER.fullmatch(name)]
    scopes = [found[1] or "" for name in wanted if (found := STEM.fullmatch(name))]
    if len(scopes) != 1:
        held = ", ".join(wanted[:3]) or "no variables of a network"
        raise ValueError(
            f"{path}: {len(scopes)} variables are named .../conv_in/W, and one is that of a U-Net; it holds {held}, ..."
        )
    scope = scopes[0]
    tensors = {name.removeprefix(scope): bundle.read(name) for name in wanted if name.startswith(scope)}
    ema = {name.removesuffix(AVERAGE): value for name, value in tensors.items() if name.endswith(AVERAGE)}
    raw = {name: value for name, value in tensors.items() if not name.endswith(AVERAGE)}
    channels = axis(raw, "conv_in/W", 2, WHAT)
    learned = axis(raw, "conv_out/W", 3, WHAT) > channels
    settings = {**AS_IT_IS, "net.convention": "original", "net.heads": 1, "net.scale_shift": False}
    settings |= {"diffusion.variance": "learned"} if learned else {}
    return ForeignWeights(
        ema=ema or raw,
        raw=raw,
        naming=NAMING,
        settings=settings,
        channels=channels,
        step=int(np.ravel(bundle.read(STEP))[0]) if STEP in bundle.entries else None,
        unspecified="the heights with attention, the schedule and the variance",
    )
