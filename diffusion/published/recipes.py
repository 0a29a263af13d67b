"""The experiments of the papers as published: hyper-parameters, scores, cost, and how a config departs from them.

Ho, Jain and Abbeel 2020 (DDPM), sections 4, B and C, tables 1 and 3, and Nichol and Dhariwal 2021 (Improved DDPM), with
the published code where a paper is silent. The values are written out, not taken from the defaults, so that a changed
default shows as a deviation.
"""

from typing import Any, NamedTuple

from diffusion.config.config import Config, flatten


class Published(NamedTuple):
    """One experiment of the paper."""

    title: str
    scores: str
    """What the paper reports."""
    cost: str
    """What it took."""
    values: dict[str, Any]
    """Its hyper-parameters, by config key."""


_ALL = {
    "diffusion.schedule": "linear",
    "diffusion.T": 1000,
    "diffusion.beta_1": 1e-4,
    "diffusion.beta_T": 0.02,
    "diffusion.parameterization": "eps",
    "objective.name": "simple",
    "objective.timesteps": "uniform",
    "net.channels": 128,
    "net.blocks": 2,
    "net.attention": (16,),
    "net.heads": 1,
    "net.scale_shift": False,
    "net.convention": "original",
    "net.class_conditional": False,
    "net.dtype": "float32",
    "net.rescale_time": False,
    "optim.warmup_steps": 5000,
    "optim.clip": 1.0,
    "optim.beta_1": 0.9,
    "optim.beta_2": 0.999,
    "optim.eps": 1e-8,
    "optim.weight_decay": 0.0,
    "optim.skip_spike": 0.0,
    "optim.ema_decay": 0.9999,
    "optim.ema_warmup": False,
    "sample.sampler": "ancestral",
    "sample.grid": "",
    "sample.clip": True,
}

_CIFAR10 = _ALL | {
    "data.name": "cifar10",
    "data.size": 0,
    "data.flip": True,
    "diffusion.variance": "fixed_large",
    "net.multipliers": (1, 2, 2, 2),
    "net.dropout": 0.1,
    "optim.lr": 2e-4,
    "train.batch_size": 128,
    "train.steps": 800_000,
}

_256 = _ALL | {
    "data.size": 256,
    "data.flip": True,
    "diffusion.variance": "fixed_small",
    "net.multipliers": (1, 1, 2, 2, 4, 4),
    "net.dropout": 0.0,
    "optim.lr": 2e-5,
    "train.batch_size": 64,
}

_IMPROVED = _ALL | {
    "data.flip": False,
    "diffusion.schedule": "cosine",
    "diffusion.T": 4000,
    "diffusion.variance": "learned_range",
    "objective.name": "hybrid",
    "objective.vlb_weight": 0.001,
    "net.blocks": 3,
    "net.attention": (16, 8),
    "net.heads": 4,
    "net.scale_shift": True,
    "net.convention": "improved",
    "net.rescale_time": True,
    "optim.lr": 1e-4,
    "optim.warmup_steps": 0,
    "optim.clip": 0.0,
    "train.batch_size": 128,
}

_CIFAR10_IMPROVED = _IMPROVED | {
    "data.name": "cifar10",
    "data.size": 0,
    "net.multipliers": (1, 2, 2, 2),
    "net.dropout": 0.3,
    "train.steps": 500_000,
}

_FID_256 = "from 50,000 samples with the code of StyleGAN2"
_COST_256 = "2.2 steps/s on a TPU v3-8"

PAPER: dict[str, Published] = {
    "cifar10": Published(
        "CIFAR-10, L_simple (table 1)",
        "FID 3.17 against the training set and 5.24 against the test set, IS 9.46 +- 0.11, from 50,000 samples; "
        "at most 3.75 bits/dim on the test set and 3.72 on the training set",
        "10.6 hours at 21 steps/s on a TPU v3-8",
        _CIFAR10,
    ),
    "celebahq256": Published(
        "CelebA-HQ 256x256", "samples only, no score", f"{_COST_256}: 63 hours", _256 | {"train.steps": 500_000}
    ),
    "lsun_bedroom": Published(
        "LSUN Bedroom 256x256 (table 3)",
        f"FID 6.36 {_FID_256}",
        f"{_COST_256}: 300 hours",
        _256 | {"train.steps": 2_400_000, "data.flip": False},
    ),
    "lsun_church": Published(
        "LSUN Church 256x256 (table 3)",
        f"FID 7.89 {_FID_256}",
        f"{_COST_256}: 150 hours",
        _256 | {"train.steps": 1_200_000},
    ),
    "lsun_cat": Published(
        "LSUN Cat 256x256 (table 3)",
        f"FID 19.75 {_FID_256}",
        f"{_COST_256}: 230 hours",
        _256 | {"train.steps": 1_800_000},
    ),
    "cifar10_improved": Published(
        "CIFAR-10, Improved DDPM, L_hybrid",
        "3.17 bits/dim on the test set, FID 3.19 from 50,000 samples against the training set, single run",
        "not stated",
        _CIFAR10_IMPROVED,
    ),
    "cifar10_improved_vlb": Published(
        "CIFAR-10, Improved DDPM, L_vlb with importance-sampled t",
        "2.94 bits/dim on the test set, FID 11.47 from 50,000 samples against the training set, single run",
        "not stated",
        _CIFAR10_IMPROVED | {"objective.name": "vlb", "objective.timesteps": "loss_second_moment"},
    ),
    "imagenet64": Published(
        "ImageNet 64x64, Improved DDPM, L_hybrid",
        "3.57 bits/dim on the validation set, FID 19.2 from 10,000 samples against the training set, single run",
        "not stated",
        _IMPROVED | {"data.size": 64, "net.multipliers": (1, 2, 3, 4), "net.dropout": 0.0, "train.steps": 1_500_000},
    ),
}


def deviations(config: Config) -> list[str]:
    """Lines such as "optim.lr = 0.001 (paper: 0.0002)" where a config departs from the experiment that it names.

    Empty for a faithful config and for one whose `paper` is empty. Raises ValueError for an experiment not listed here.
    """
    flat = flatten(config)
    if not flat["paper"]:
        return []
    if flat["paper"] not in PAPER:
        raise ValueError(f"config.paper: {flat['paper']!r} is not one of {', '.join(PAPER)}")
    published = PAPER[flat["paper"]].values
    return [f"{key} = {flat[key]!r} (paper: {value!r})" for key, value in published.items() if flat[key] != value]
