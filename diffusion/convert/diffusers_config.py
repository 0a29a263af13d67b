"""The JSON files of a diffusers pipeline (a UNet2DModel and a DDPMScheduler) as keys of our config, and the reverse.

Keys that a file lacks have the library's defaults.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from diffusion.convert.contents_of_weight_file import AS_IT_IS

Settings = dict[str, Any]


class Key(NamedTuple):
    """A key of a file that is a key of our config."""

    theirs: str
    ours: str
    default: Any
    """Theirs; None: a file without the key leaves it open."""
    values: Mapping[Any, str] | None = None
    """Our value -> theirs; None: the values are the same."""


SHIFT = Key("resnet_time_scale_shift", "net.scale_shift", "default", {False: "default", True: "scale_shift"})
SCHEDULES = {"linear": "linear", "quad": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"}
PREDICTIONS = {"eps": "epsilon", "x_0": "sample", "v": "v_prediction"}
VARIANCES = ("fixed_small", "fixed_large", "learned_range")
SCHEDULE, START, END, COSINE = "beta_schedule", "beta_start", "beta_end", "squaredcos_cap_v2"

UNET = (Key("layers_per_block", "net.blocks", 2), SHIFT)
SCHEDULER = (
    Key("num_train_timesteps", "diffusion.T", 1000),
    Key(SCHEDULE, "diffusion.schedule", "linear", SCHEDULES),
    Key(START, "diffusion.beta_1", 1e-4),
    Key(END, "diffusion.beta_T", 0.02),
    Key("prediction_type", "diffusion.parameterization", "epsilon", PREDICTIONS),
    # A "learned" output is the variance itself in diffusers, and its logarithm in our network.
    Key("variance_type", "diffusion.variance", None, {v: v for v in VARIANCES}),
    Key("clip_sample", "sample.clip", True),
)
ALIASES = {"fixed_small_log": "fixed_small", "swish": "silu"}
"""Their values that mean the same as others."""

CONVENTIONS = {
    "original": {"norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0},
    "improved": {"norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1},
}
"""The details that no tensor shows, by our net.convention."""
REST = {
    **{"sample_size": None, "in_channels": 3, "block_out_channels": (224, 448, 672, 896), "attention_head_dim": 8},
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    **{"norm_num_groups": 32, "attn_norm_num_groups": None, "num_class_embeds": None, SHIFT.theirs: SHIFT.default},
    **CONVENTIONS["improved"],
}
"""Keys of a UNet2DModel that are not one key of ours, and their defaults."""
EXPORTED = "the config, which cannot be exported to diffusers"
DOWN = {False: "DownBlock2D", True: "AttnDownBlock2D"}
UP = {False: "UpBlock2D", True: "AttnUpBlock2D"}

FIXED = {
    **{"center_input_sample": False, "time_embedding_type": "positional", "mid_block_type": "UNetMidBlock2D"},
    **{"mid_block_scale_factor": 1, "add_attention": True, "downsample_type": "conv", "upsample_type": "conv"},
    **{"act_fn": "silu", "class_embed_type": None},
}
"""Values, all of them defaults, without which a UNet2DModel is not our network."""
FIXED_NEW = {"attention_legacy_order": False, "time_embedding_dim": None}
"""The same of keys that only some versions of the library have; they are not written."""
FIXED_SCHEDULER = {"thresholding": False, "clip_sample_range": 1.0, "rescale_betas_zero_snr": False}


def settings(unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Settings:
    """The config keys that the two files determine, but for net.attention; none of the diffusion without a scheduler.

    Raises ValueError, naming the key, for what our network or our processes cannot be.
    """
    _require(unet, FIXED | FIXED_NEW, "the file's UNet2DModel")
    network = {**_read(UNET, unet), **_widths(REST | dict(unet))}
    if not scheduler:
        return network
    _require(scheduler, FIXED_SCHEDULER, "the file's scheduler")
    cosine = scheduler.get(SCHEDULE) == COSINE
    unused = (START, END) if cosine else () if betas(scheduler) is None else (SCHEDULE, START, END)
    found = network | AS_IT_IS | _read([key for key in SCHEDULER if key.theirs not in unused], scheduler)
    return found | ({} if found["diffusion.T"] == 1000 else {"net.rescale_time": False})


def attended(unet: Mapping[str, Any]) -> tuple[int, ...]:
    """The levels with attention, 0 at full size. Raises ValueError for blocks that our network does not have."""
    c = REST | dict(unet)
    down, up = (
        [_ours("a block's type", name, kinds) for name in c[key]]
        for key, kinds in (("down_block_types", DOWN), ("up_block_types", UP))
    )
    if down != up[::-1] or len(down) != len(c["block_out_channels"]):
        raise ValueError("a UNet2DModel with attention elsewhere on the way up than on the way down is not our network")
    return tuple(level for level, flag in enumerate(down) if flag)


def betas(scheduler: Mapping[str, Any]) -> np.ndarray | None:
    """beta[1..T] where the scheduler lists them."""
    listed = scheduler.get("trained_betas")
    return None if listed is None else np.asarray(listed, np.float64)


def unet(config: Mapping[str, Any], shape: tuple[int, int, int], outputs: int, classes: int) -> Settings:
    """The file of a network with this flat config of ours and one number of heads and groups throughout.

    The caller adds attention_head_dim and norm_num_groups. Raises ValueError where diffusers has no such network.
    """
    height, width, channels = shape
    multipliers = config["net.multipliers"]
    _require(config, {"net.block_size": 1}, EXPORTED)
    if multipliers[0] != 1:
        raise ValueError(
            f"config.net.multipliers: {multipliers!r} does not begin with 1, and a UNet2DModel is as wide after its "
            "first convolution as at its first level: it cannot be exported"
        )
    with_attention = [height >> level in config["net.attention"] for level in range(len(multipliers))]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": outputs,
        "block_out_channels": [config["net.channels"] * multiplier for multiplier in multipliers],
        "down_block_types": [DOWN[flag] for flag in with_attention],
        "up_block_types": [UP[flag] for flag in reversed(with_attention)],
        "dropout": config["net.dropout"],
        "num_class_embeds": classes or None,
        **_write(UNET, config),
        **CONVENTIONS[config["net.convention"]],
        **FIXED,
    }


def scheduler(config: Mapping[str, Any], beta: np.ndarray) -> Settings:
    """The file of a diffusion with this flat config of ours and beta[1..T].

    Raises ValueError where diffusers has no such diffusion.
    """
    _require(config, AS_IT_IS | ({} if config["diffusion.T"] == 1000 else {"net.rescale_time": False}), EXPORTED)
    named = config["diffusion.schedule"] in SCHEDULES
    return {
        "_class_name": "DDPMScheduler",
        **_write(SCHEDULER, config if named else {**config, "diffusion.schedule": "linear"}),
        "trained_betas": None if named else beta.tolist(),
        "clip_sample_range": 1.0,
        "thresholding": False,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }


def _read(keys: Iterable[Key], given: Mapping[str, Any]) -> Settings:
    """Our keys and values, of those keys that are given or have a default."""
    pairs = [(key, given.get(key.theirs, key.default)) for key in keys]
    return {
        key.ours: _ours(key.theirs, value, key.values) if key.values else value
        for key, value in pairs
        if value is not None
    }


def _write(keys: Iterable[Key], config: Mapping[str, Any]) -> Settings:
    """Their keys and values. Raises ValueError where they have no such value."""
    written = {}
    for theirs, ours, _, values in keys:
        value = config[ours]
        if values and value not in values:
            raise ValueError(f"config.{ours}: {value!r} cannot be exported; diffusers has only {', '.join(values)}")
        written[theirs] = values[value] if values else value
    return written


def _ours(theirs: str, value: Any, values: Mapping[Any, str]) -> Any:
    """Our value for theirs. Raises ValueError where we have none."""
    for ours, name in values.items():
        if name == ALIASES.get(value, value):
            return ours
    raise ValueError(f"{theirs} is {value!r} in the file; supported: {', '.join(values.values())}")


def _require(given: Mapping[str, Any], only: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for a key whose value is another than the only one that both networks have."""
    for key, value in only.items():
        found = given.get(key, value)
        if ALIASES.get(found, found) != value:
            raise ValueError(f"{key} is {found!r} in {where}; supported: {value!r}")


def _widths(c: Mapping[str, Any]) -> Settings:
    """The settings that follow from several keys."""
    widths = tuple(c["block_out_channels"])
    levels = attended(c)
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels {list(widths)} are not multiples of the first, as in our network")
    norms = {c["norm_num_groups"], c["attn_norm_num_groups"] or c["norm_num_groups"]}
    if len(norms) > 1 or (c["attn_norm_num_groups"] is None and c[SHIFT.theirs] != SHIFT.default):
        raise ValueError("the norm of the attention in the middle is not that of the other blocks, as in our network")
    dim = c["attention_head_dim"]
    with_attention = {widths[level] for level in levels} | {widths[-1]}
    heads = {divmod(width, dim) if dim else (1, 0) for width in with_attention}
    if len(heads) != 1 or max(rest for _, rest in heads):
        raise ValueError(
            f"attention_head_dim {dim} gives attention blocks of widths {sorted(with_attention)} different numbers of "
            "heads, and our network has one number for all"
        )
    convention = [name for name, details in CONVENTIONS.items() if all(c[key] == details[key] for key in details)]
    if not convention:
        found = ", ".join(f"{key} {c[key]!r}" for key in CONVENTIONS["original"])
        raise ValueError(f"{found} in the file: supported only together as in the original or the improved code")
    return {
        "net.channels": widths[0],
        "net.multipliers": tuple(width // widths[0] for width in widths),
        "net.heads": heads.pop()[0],
        "net.class_conditional": c["num_class_embeds"] is not None,
        "net.convention": convention[0],
    }
