"""What the JSON files of a diffusers pipeline say, in keys of our config, and the reverse.

A network here is a UNet2DModel, a diffusion a DDPMScheduler. Keys that a file lacks have the library's defaults.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

UNET = {
    **{"sample_size": None, "in_channels": 3, "out_channels": 3, "layers_per_block": 2, "dropout": 0.0},
    **{"block_out_channels": (224, 448, 672, 896), "attention_head_dim": 8, "norm_num_groups": 32},
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    **{"attn_norm_num_groups": None, "resnet_time_scale_shift": "default", "num_class_embeds": None},
    **{"norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1},
}
"""Defaults of the keys that are read."""

FIXED = {
    **{"center_input_sample": (False,), "time_embedding_type": ("positional",), "time_embedding_dim": (None,)},
    **{"mid_block_type": ("UNetMidBlock2D",), "mid_block_scale_factor": (1,), "add_attention": (True,)},
    **{"downsample_type": ("conv",), "upsample_type": ("conv",), "act_fn": ("silu", "swish")},
    **{"class_embed_type": (None,), "attention_legacy_order": (False,)},
}
"""Values without which a UNet2DModel is not our network; the first is the default."""

FIXED_SCHEDULER = {"thresholding": (False,), "clip_sample_range": (1.0,), "rescale_betas_zero_snr": (False,)}

CONVENTIONS = {
    "original": {"norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0},
    "improved": {"norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1},
}
"""The details that no tensor shows, by the name of our convention."""

DOWN = {False: "DownBlock2D", True: "AttnDownBlock2D"}
UP = {False: "UpBlock2D", True: "AttnUpBlock2D"}
TIMES = {False: "default", True: "scale_shift"}
SCHEDULES = {"linear": "linear", "quad": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"}
ENDS = frozenset({"linear", "quad", "sigmoid"})
"""Schedules that beta_1 and beta_T define."""
PREDICTIONS = {"eps": "epsilon", "x_0": "sample", "v": "v_prediction"}
VARIANCES = {"fixed_small": "fixed_small", "fixed_large": "fixed_large", "learned_range": "learned_range"}
SAME_VARIANCE = {"fixed_small_log": "fixed_small"}
DEFAULTS = {"DDPMScheduler": {"variance_type": "fixed_small", "clip_sample": True}}
"""Defaults of a scheduler's keys by its class; what another class leaves open stays open."""


def settings(unet: Mapping[str, Any], scheduler: Mapping[str, Any], height: int) -> dict[str, Any]:
    """The config keys that the two files determine, for images of this height; no keys of the diffusion without one.

    Raises ValueError, naming the key, for what our network or our processes cannot be.
    """
    return _network(unet, height) | (_diffusion(scheduler) if scheduler else {})


def betas(scheduler: Mapping[str, Any]) -> np.ndarray | None:
    """beta[1..T] where the scheduler lists them."""
    listed = scheduler.get("trained_betas")
    return None if listed is None else np.asarray(listed, np.float64)


def unet(config: Mapping[str, Any], shape: tuple[int, int, int], outputs: int, classes: int) -> dict[str, Any]:
    """The file of a network with this flat config of ours and one number of heads and groups throughout.

    The caller adds attention_head_dim and norm_num_groups. Raises ValueError where diffusers has no such network.
    """
    height, width, channels = shape
    multipliers = config["net.multipliers"]
    if multipliers[0] != 1:
        raise ValueError(
            f"config.net.multipliers: {multipliers!r} does not begin with 1, and a UNet2DModel is as wide after its "
            "first convolution as at its first level: it cannot be exported"
        )
    attended = [height >> level in config["net.attention"] for level in range(len(multipliers))]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": outputs,
        "block_out_channels": [config["net.channels"] * multiplier for multiplier in multipliers],
        "down_block_types": [DOWN[with_attention] for with_attention in attended],
        "up_block_types": [UP[with_attention] for with_attention in reversed(attended)],
        "layers_per_block": config["net.blocks"],
        "dropout": config["net.dropout"],
        "resnet_time_scale_shift": TIMES[config["net.scale_shift"]],
        "num_class_embeds": classes or None,
        **CONVENTIONS[config["net.convention"]],
        **{key: values[0] for key, values in FIXED.items() if key not in OMITTED},
    }


OMITTED = frozenset({"attention_legacy_order", "time_embedding_dim"})
"""Keys that only some versions of the library know."""


def scheduler(config: Mapping[str, Any], beta: np.ndarray) -> dict[str, Any]:
    """The file of a diffusion with this flat config of ours and beta[1..T].

    Raises ValueError where diffusers has no such diffusion.
    """
    kind, variance = config["diffusion.parameterization"], config["diffusion.variance"]
    if kind not in PREDICTIONS:
        raise ValueError(
            f"config.diffusion.parameterization: {kind!r} cannot be exported; diffusers knows {', '.join(PREDICTIONS)}"
        )
    if variance not in VARIANCES:
        raise ValueError(
            f"config.diffusion.variance: {variance!r} cannot be exported; diffusers takes a learned output for the "
            f"variance itself, not its logarithm, and otherwise knows {', '.join(VARIANCES)}"
        )
    if config["net.rescale_time"] and config["diffusion.T"] != 1000:
        raise ValueError(
            f"config.net.rescale_time: true with T = {config['diffusion.T']} cannot be exported; the pipelines of "
            "diffusers give the network the number of the step as it is"
        )
    name = SCHEDULES.get(config["diffusion.schedule"])
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": config["diffusion.T"],
        "beta_schedule": name or "linear",
        "beta_start": config["diffusion.beta_1"],
        "beta_end": config["diffusion.beta_T"],
        "trained_betas": None if name else beta.tolist(),
        "prediction_type": PREDICTIONS[kind],
        "variance_type": VARIANCES[variance],
        "clip_sample": config["sample.clip"],
        "clip_sample_range": 1.0,
        "thresholding": False,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }


def _network(given: Mapping[str, Any], height: int) -> dict[str, Any]:
    _demand(given, FIXED, "UNet2DModel")
    c = UNET | dict(given)
    widths = tuple(c["block_out_channels"])
    down, up = (_flags(c[key], kinds) for key, kinds in (("down_block_types", DOWN), ("up_block_types", UP)))
    if down != up[::-1] or len(down) != len(widths):
        raise ValueError("a UNet2DModel with attention elsewhere on the way up than on the way down is not our network")
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels {list(widths)} are not multiples of the first, as in our network")
    norms = {c["norm_num_groups"], c["attn_norm_num_groups"] or c["norm_num_groups"]}
    if len(norms) > 1 or (c["attn_norm_num_groups"] is None and c["resnet_time_scale_shift"] != TIMES[False]):
        raise ValueError("the norm of the attention in the middle is not that of the other blocks, as in our network")
    attended = {width for width, with_attention in zip(widths, down, strict=True) if with_attention} | {widths[-1]}
    dim = c["attention_head_dim"]
    heads = {1} if dim is None else {width // dim for width in attended if width % dim == 0}
    if len(heads) != 1 or (dim is not None and any(width % dim for width in attended)):
        raise ValueError(
            f"attention_head_dim {dim} gives attention blocks of widths {sorted(attended)} different numbers of heads, "
            "and our network has one number for all"
        )
    return {
        "net.channels": widths[0],
        "net.multipliers": tuple(width // widths[0] for width in widths),
        "net.blocks": c["layers_per_block"],
        "net.attention": tuple(height >> level for level, flag in enumerate(down) if flag),
        "net.heads": heads.pop(),
        "net.scale_shift": _named(c["resnet_time_scale_shift"], TIMES, "resnet_time_scale_shift"),
        "net.class_conditional": c["num_class_embeds"] is not None,
        "net.convention": _convention(c),
    }


def _diffusion(given: Mapping[str, Any]) -> dict[str, Any]:
    _demand(given, FIXED_SCHEDULER, "scheduler")
    c = DEFAULTS.get(given.get("_class_name", ""), {}) | dict(given)
    found: dict[str, Any] = {
        "diffusion.T": c.get("num_train_timesteps", 1000),
        "diffusion.parameterization": _named(c.get("prediction_type", "epsilon"), PREDICTIONS, "prediction_type"),
    }
    if c.get("trained_betas") is None:
        schedule = _named(c.get("beta_schedule", "linear"), SCHEDULES, "beta_schedule")
        ends = {"diffusion.beta_1": c.get("beta_start", 1e-4), "diffusion.beta_T": c.get("beta_end", 0.02)}
        found |= {"diffusion.schedule": schedule, **(ends if schedule in ENDS else {})}
    variance, clip = c.get("variance_type"), c.get("clip_sample")
    if variance is not None:
        found["diffusion.variance"] = _named(SAME_VARIANCE.get(variance, variance), VARIANCES, "variance_type")
    return found | ({"sample.clip": clip} if clip is not None else {})


def _demand(given: Mapping[str, Any], fixed: Mapping[str, tuple], what: str) -> None:
    for key, legal in fixed.items():
        value = given.get(key, legal[0])
        if value not in legal:
            raise ValueError(f"{key} is {value!r} in the file's {what}, and here it can only be {legal[0]!r}")


def _named(value: Any, table: Mapping[Any, str], key: str) -> Any:
    """Our name for theirs."""
    for ours, theirs in table.items():
        if value == theirs:
            return ours
    raise ValueError(f"{key} is {value!r} in the file, and here it can only be {', '.join(table.values())}")


def _flags(types: Any, kinds: Mapping[bool, str]) -> list[bool]:
    return [_named(name, kinds, "a block's type") for name in types]


def _convention(c: Mapping[str, Any]) -> str:
    for name, details in CONVENTIONS.items():
        if all(c[key] == value for key, value in details.items()):
            return name
    found = ", ".join(f"{key} {c[key]!r}" for key in CONVENTIONS["original"])
    raise ValueError(f"{found} in the file: here these go together as in the original or the improved code only")
