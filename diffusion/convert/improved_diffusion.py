"""The names of the code of Nichol & Dhariwal 2021 (improved-diffusion), and its files of weights.

Queries, keys and values come from one map there. Its 3C outputs are ordered by head first, and within a head by query,
key and value: the order of the released weights.
"""

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.convert import name_mapping, torch_file
from diffusion.convert.foreign_weights import ForeignWeights, axis
from diffusion.convert.name_mapping import (
    CONVOLUTION,
    SAME,
    TRANSPOSED,
    Form,
    Layout,
    Naming,
    Param,
    Rule,
    Shapes,
    pointwise,
)

WHAT = "a U-Net of improved-diffusion"
LABELS = "label_emb.weight"


def _down(p: Param, layout: Layout) -> int:
    """Number of an input block; the first is the stem."""
    return 1 + p.level * (layout.blocks + 1) + p.index


def _up(p: Param, layout: Layout) -> int:
    """Number of an output block; the deepest level comes first."""
    return (layout.levels - 1 - p.level) * (layout.blocks + 1) + p.index


def _fixed(name: str) -> Callable[[Param, Layout], str]:
    return lambda p, layout: name  # noqa: ARG005


NAMING = Naming(
    modules={
        "time_1": _fixed("time_embed.0"),
        "time_2": _fixed("time_embed.2"),
        "label": _fixed("label_emb"),
        "conv_in": _fixed("input_blocks.0.0"),
        "down_block": lambda p, layout: f"input_blocks.{_down(p, layout)}.0",
        "down_attention": lambda p, layout: f"input_blocks.{_down(p, layout)}.1",
        "down_downsample": lambda p, layout: f"input_blocks.{_down(p, layout) + layout.blocks}.0.op",
        "middle_block_1": _fixed("middle_block.0"),
        "middle_attention": _fixed("middle_block.1"),
        "middle_block_2": _fixed("middle_block.2"),
        "up_block": lambda p, layout: f"output_blocks.{_up(p, layout)}.0",
        "up_attention": lambda p, layout: f"output_blocks.{_up(p, layout)}.1",
        "up_upsample": lambda p, layout: (
            f"output_blocks.{_up(p, layout) + layout.blocks}.{1 + (p.level in layout.attended)}.conv"
        ),
        "norm_out": _fixed("out.0"),
        "conv_out": _fixed("out.2"),
    },
    layers={
        **{"": "", "conv": "", "norm": "norm", "q": "qkv", "k": "qkv", "v": "qkv", "proj": "proj_out"},
        **{"norm_1": "in_layers.0", "conv_1": "in_layers.2", "time": "emb_layers.1", "norm_2": "out_layers.0"},
        **{"conv_2": "out_layers.3", "shortcut": "skip_connection"},
    },
    leaf=lambda p: LEAVES[p.leaf],
    form=lambda p: FORMS.get((p.layer, p.leaf), _by_axes(p)),
    separator=".",
)
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "embedding": "weight"}
FORMS = {("shortcut", "kernel"): pointwise(2), ("proj", "kernel"): pointwise(1)}


def _by_axes(p: Param) -> Form:
    return {"kernel": {4: CONVOLUTION, 2: TRANSPOSED}}.get(p.leaf, {}).get(len(p.shape), SAME)


def fused(heads: int) -> Form:
    """One tensor [3C, ...] for query, key and value: by head first, then by which of the three.

    Of a weight [3C, C, 1] come three kernels [C, C], of a bias [3C] three biases [C].
    """

    def read(x: np.ndarray) -> list[np.ndarray]:
        parts = x.reshape(heads, 3, -1, *x.shape[1:2])
        return [parts[:, i].reshape(-1, *x.shape[1:2]).T for i in range(3)]

    def write(xs: list[np.ndarray]) -> np.ndarray:
        rows = np.stack([x.T.reshape(heads, -1, *x.shape[:-1]) for x in xs], axis=1)
        return rows.reshape(-1, *xs[0].shape[:-1], *(1,) * (xs[0].ndim - 1))

    return Form(read, write)


def _which(name: str) -> int:
    """Queries before keys before values."""
    return "qkv".find(name.split(".")[-2])


def rules(shapes: Shapes, heads: int) -> tuple[Rule, ...]:
    """The table for a network of these shapes; the three maps of an attention block share a tensor."""
    alone = sorted(name_mapping.rules(NAMING, shapes), key=lambda rule: rule.theirs)
    merged = []
    for theirs, group in groupby(alone, key=lambda rule: rule.theirs):
        found = list(group)
        ours = tuple(sorted((name for rule in found for name in rule.ours), key=_which))
        merged.append(Rule(theirs, ours, found[0].form if len(found) < 3 else fused(heads)))
    return tuple(merged)


OWN_NAME = re.compile(r"(?:model|opt|ema_[\d.]+_)(\d+)([KM]?)")
"""Names that the code itself gives to its files."""
RELEASED_NAME = re.compile(r"(?<![A-Za-z\d.])(\d+)K(?![A-Za-z\d])")
"""Thousands of steps in the name of a released file; its millions (50M, 100M) are parameters."""
SCALE = {"": 1, "K": 1_000, "M": 1_000_000}


def step_of(stem: str) -> int | None:
    """Training steps by a file's name: 500,000 of ema_0.9999_500000, cifar10_uncond_50M_500K; None if ambiguous."""
    if own := OWN_NAME.fullmatch(stem):
        return int(own[1]) * SCALE[own[2]]
    thousands = RELEASED_NAME.findall(stem)
    return int(thousands[0]) * SCALE["K"] if len(thousands) == 1 else None


def read(path: Path) -> ForeignWeights:
    """A state dict as saved by that code, averaged (ema_0.9999_500000.pt) or raw (model500000.pt).

    Raises ValueError where the file is damaged or holds something else.
    """
    tensors = torch_file.read(path)
    channels = axis(tensors, "input_blocks.0.0.weight", 1, WHAT)
    learned = axis(tensors, "out.2.weight", 0, WHAT) > channels
    classes = axis(tensors, LABELS, 0, WHAT) if LABELS in tensors else 0
    settings: dict[str, Any] = {
        "net.convention": "improved",
        "net.class_conditional": classes > 0,
        **({"diffusion.variance": "learned_range"} if learned else {}),
    }
    return ForeignWeights(
        ema=tensors,
        raw=tensors,
        rules=rules,
        settings=lambda height: settings,  # noqa: ARG005
        size=None,
        channels=channels,
        classes=classes,
        beta=None,
        step=step_of(path.stem),
        unspecified="the attention heads, the schedule, its steps, whether time is rescaled"
        + ("" if learned else " and the variance"),
    )
