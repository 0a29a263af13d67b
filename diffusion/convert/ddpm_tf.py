"""The names of the original TensorFlow code of Ho et al. 2020, and its checkpoints.

Tensors are laid out as ours: [height, width, in, out] and [in, out]. A checkpoint holds every variable three more
times: its moving average, and Adam's two moments.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.convert import name_mapping, tensor_bundle
from diffusion.convert.foreign_weights import ForeignWeights, axis
from diffusion.convert.name_mapping import SAME, Layout, Naming, Param, Rule, Shapes

STEP = "global_step"
AVERAGE = "/ExponentialMovingAverage"
TRAINING = re.compile(r"(.*/)?(Adam(_1)?|RMSProp(_1)?|Momentum|beta[12]_power|global_step)")
"""Variables of the optimiser, which are not taken over."""
STEM = re.compile(r"(.*/)?conv_in/W")


def _named(template: str) -> Callable[[Param, Layout], str]:
    return lambda p, layout: template.format(level=p.level, index=p.index)  # noqa: ARG005


NAMING = Naming(
    modules={
        "time_1": _named("temb/dense0"),
        "time_2": _named("temb/dense1"),
        "conv_in": _named("conv_in"),
        "down_block": _named("down_{level}/block_{index}"),
        "down_attention": _named("down_{level}/attn_{index}"),
        "down_downsample": _named("down_{level}/downsample"),
        "middle_block_1": _named("mid/block_1"),
        "middle_attention": _named("mid/attn_1"),
        "middle_block_2": _named("mid/block_2"),
        "up_block": _named("up_{level}/block_{index}"),
        "up_attention": _named("up_{level}/attn_{index}"),
        "up_upsample": _named("up_{level}/upsample"),
        "norm_out": _named("norm_out"),
        "conv_out": _named("conv_out"),
        "label": _named("no such variable in the original code: label"),
    },
    layers={
        **{"": "", "conv": "conv", "norm": "norm", "q": "q", "k": "k", "v": "v", "proj": "proj_out"},
        **{"norm_1": "norm1", "conv_1": "conv1", "time": "temb_proj", "norm_2": "norm2", "conv_2": "conv2"},
        "shortcut": "nin_shortcut",
    },
    leaf=lambda p: LEAVES[p.norm, p.leaf],
    form=lambda p: SAME,  # noqa: ARG005
    separator="/",
)
LEAVES = {
    **{(True, "scale"): "gamma", (True, "bias"): "beta"},
    **{(False, "kernel"): "W", (False, "bias"): "b", (False, "embedding"): "W"},
}


def rules(shapes: Shapes, heads: int) -> tuple[Rule, ...]:  # noqa: ARG001
    """The table for a network of these shapes."""
    return name_mapping.rules(NAMING, shapes)


def read(path: Path) -> ForeignWeights:
    """A checkpoint: the prefix such as model.ckpt-790000, or any of its files.

    Averages and raw weights are taken; the optimiser's variables, and others outside the network's scope, are left.
    The scope is recognised by the first convolution and dropped. Raises ValueError where the files are damaged, or hold
    something else.
    """
    bundle = tensor_bundle.open_bundle(path)
    wanted = [name for name in bundle.entries if not TRAINING.fullmatch(name)]
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
    channels = axis(raw, "conv_in/W", 2, "a U-Net of the original code")
    outputs = axis(raw, "conv_out/W", 3, "a U-Net of the original code")
    learned = {"diffusion.variance": "learned"} if outputs > channels else {}
    settings: dict[str, Any] = {"net.convention": "original", "net.heads": 1, "net.scale_shift": False, **learned}
    step = int(np.ravel(bundle.read(STEP))[0]) if STEP in bundle.entries else None
    return ForeignWeights(
        ema=ema or raw,
        raw=raw,
        rules=rules,
        settings=lambda height: settings,  # noqa: ARG005
        size=None,
        channels=channels,
        classes=0,
        beta=None,
        step=step,
        unspecified="the heights with attention, the schedule and the variance",
    )
