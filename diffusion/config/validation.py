"""Checks of a config: `validate` refuses what cannot work, `doubts` and `remarks` are lines of the start-up report."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten, lookup, unread
from diffusion.config.keys_with_legal_values import KEYS
from diffusion.config.misspelt_names import closest_name
from diffusion.core import respacing

LEARNED = ("learned", "learned_range")
SQUARED_ERRORS = ("simple", "mu_mse", "p2", "min_snr", "edm")
"""Objectives without a term for the variance."""
NO_WEIGHT_AT_0 = ("p2", "min_snr")
"""Objectives whose weight falls to 0 with the signal-to-noise ratio."""
WITH_BOUND = ("vlb", "hybrid")
"""Objectives with a term of the bound."""
SIGNAL_ENDS = ("jsd", "rectified")
"""Schedules with signal[T] = 0."""

PERIODS = ("log_every", "sample_every", "eval_every", "checkpoint_every", "keep_every")
"""The keys of config.train at whose multiples a dispatch ends."""

OWN_SIZE = {"digits": 8, "cifar10": 32, "mnist": 28}
"""Height and width of the sets whose images come in one size."""


class Rule(NamedTuple):
    """A combination to avoid: when it is broken, and one line with the remedy (`c` is the config)."""

    broken: Callable[[ConfigDict], bool]
    line: str


def _guided_without_signal(c: ConfigDict) -> bool:
    """Whether a classifier guides the last step; that of an interval is the one of experiment/build_guidance.py."""
    return (
        c.sample.guidance > 0
        and c.sample.classifier != ""
        and round(c.sample.guidance_to * c.diffusion.T) >= c.diffusion.T
    )


def _skips_steps(c: ConfigDict) -> bool:
    """Whether samples visit fewer than all T steps."""
    T = c.diffusion.T
    return c.sample.grid != "" and len(respacing.parse(c.sample.grid)(np.arange(T + 1.0))) < T + 1


RULES = (
    Rule(
        lambda c: c.diffusion.variance in LEARNED and c.objective.name in SQUARED_ERRORS,
        "config.diffusion.variance: {c.diffusion.variance!r} would never be trained, since objective "
        "{c.objective.name!r} has no term for it; use objective hybrid or vlb, or a fixed variance",
    ),
    Rule(
        lambda c: c.objective.name == "hybrid" and c.diffusion.variance not in LEARNED,
        "config.objective.name: 'hybrid' trains the variance by a bound whose mean is frozen, and variance "
        "{c.diffusion.variance!r} has nothing to train; use variance learned_range or learned, or objective simple",
    ),
    Rule(
        lambda c: (
            c.diffusion.schedule in SIGNAL_ENDS
            and (
                c.diffusion.parameterization == "eps"
                or c.objective.name in NO_WEIGHT_AT_0
                or c.net.time == "log_noise"
                or _guided_without_signal(c)
            )
        ),
        "config.diffusion.schedule: {c.diffusion.schedule!r} ends without signal, which does not go with "
        "parameterization eps, objectives p2 and min_snr, net.time log_noise, or a classifier that guides the last "
        "step (set sample.guidance_to below 1); use another schedule, or parameterization velocity, x_0, mu or v",
    ),
    Rule(
        lambda c: c.diffusion.schedule in ("ve_geometric", "ve_karras") and c.diffusion.sigma_1 >= c.diffusion.sigma_T,
        "config.diffusion.sigma_1: {c.diffusion.sigma_1!r} must be below sigma_T = {c.diffusion.sigma_T!r}, "
        "since noise grows with t",
    ),
    Rule(
        lambda c: c.data.name in OWN_SIZE and (c.data.size not in (0, OWN_SIZE[c.data.name]) or c.data.crop > 0),
        "config.data.size: {c.data.name!r} has images of a size of their own; set data.size and data.crop to 0, or use "
        "folder:PATH or tfds:NAME",
    ),
    Rule(
        lambda c: c.data.crop > 0 and c.data.size == 0,
        "config.data.crop: {c.data.crop!r} is the square that images are resized from; set data.size too",
    ),
    Rule(
        lambda c: c.data.channels == 2 or (c.data.channels > 0 and not c.data.name.startswith("folder:")),
        "config.data.channels: {c.data.channels!r} does not apply to {c.data.name!r}; use 1 or 3 for folder:PATH, "
        "and 0 for sets that have channels of their own",
    ),
    Rule(
        lambda c: c.data.name.startswith("toy:") and (c.data.flip or c.data.size > 0 or c.data.augment > 0),
        "config.data.name: {c.data.name!r} has points, which are not to be mirrored, resized or transformed; set "
        "data.flip to false, and data.size and data.augment to 0",
    ),
    Rule(
        lambda c: c.train.batch_size % c.train.accumulate > 0,
        "config.train.accumulate: {c.train.accumulate!r} parts do not divide train.batch_size = {c.train.batch_size}; "
        "use a divisor of it",
    ),
    Rule(
        lambda c: 0 < c.optim.skip_spike <= 1,
        "config.optim.skip_spike: {c.optim.skip_spike!r} times the mean is no spike: most updates would be skipped; "
        "use a number above 1, such as 10, or 0 for none",
    ),
    Rule(
        lambda c: c.sample.guidance > 0 and not (c.sample.classifier or c.net.class_conditional * c.net.label_dropout),
        "config.sample.guidance: {c.sample.guidance!r} needs a network that was trained with labels and without; train "
        "one with net.class_conditional = true and net.label_dropout = 0.1, or give a classifier's run as "
        "sample.classifier",
    ),
    Rule(
        lambda c: c.sample.guidance_from >= c.sample.guidance_to or round(c.sample.guidance_to * c.diffusion.T) < 1,
        "config.sample.guidance_from: {c.sample.guidance_from!r} must be below sample.guidance_to = "
        "{c.sample.guidance_to!r}, and a step of T = {c.diffusion.T} lie between these shares of T",
    ),
    Rule(
        lambda c: c.sample.sampler == "edm" and c.sample.churn > 0 and c.sample.churn_from > c.sample.churn_to,
        "config.sample.churn_from: {c.sample.churn_from!r} is above sample.churn_to = {c.sample.churn_to!r}: no level "
        "lies between them, and none would be churned",
    ),
)
"""Combinations that cannot work."""

DOUBTS = (
    Rule(
        lambda c: (
            c.objective.timesteps == "lognormal"
            and (c.objective.name in WITH_BOUND or c.diffusion.schedule in SIGNAL_ENDS)
        ),
        "config.objective.timesteps: 'lognormal' has a density of its own: it would weight the terms of a bound "
        "(objective vlb or hybrid), and it never draws the last step of schedule jsd or rectified, where sampling "
        "starts; use uniform",
    ),
    Rule(
        lambda c: c.diffusion.variance == "learned" and _skips_steps(c),
        "config.diffusion.variance: 'learned' is the variance of a step of the whole chain, too small for the longer "
        "steps of sample.grid = {c.sample.grid!r}; use learned_range, or all steps",
    ),
    Rule(
        lambda c: c.optim.warmup_steps > c.train.steps,
        "config.optim.warmup_steps: after {c.train.steps} steps a warm-up of {c.optim.warmup_steps} has not reached "
        "optim.lr; use fewer warm-up steps, or train longer",
    ),
    Rule(
        lambda c: any(c.train[name] % c.train.steps_per_dispatch for name in PERIODS),
        "config.train.steps_per_dispatch: {c.train.steps_per_dispatch} does not divide every one of train.log_every, "
        "sample_every, eval_every, checkpoint_every and keep_every: steps before each of these are dispatched one by "
        "one; use a common divisor",
    ),
    Rule(
        lambda c: not c.optim.ema_warmup and c.optim.ema_decay**c.train.steps > 0.05,
        "config.optim.ema_decay: after {c.train.steps} steps an average of decay {c.optim.ema_decay} still holds much "
        "of the untrained weights, and its samples are noise; set optim.ema_warmup to true, or a smaller decay",
    ),
)
"""Combinations that work but are probably mistakes: the start-up report warns of them."""


def validate(config: ConfigDict, size: int | None = None) -> None:
    """Raises ValueError, in one line that names the remedy, for the first key or combination that cannot work.

    What depends on the height of the images is checked if that is known: from `size`, or from config.data.
    """
    flat = flatten(config)
    for key, value in flat.items():
        if not lookup(key).legal.accepts(value):
            raise ValueError(refusal(key, value))
    if missing := sorted(KEYS.keys() - flat.keys()):
        raise ValueError(f"config.{missing[0]} is missing: a config starts from default_config()")
    for rule in RULES:
        if rule.broken(config):
            raise ValueError(rule.line.format(c=config))
    if config.sample.grid:
        try:
            respacing.parse(config.sample.grid)(np.arange(config.diffusion.T + 1.0))  # any rising levels
        except ValueError as error:
            raise ValueError(f"config.sample.grid: {error}") from error
    if config.net.name == "unet":
        _validate_net(config.net, size or config.data.size or OWN_SIZE.get(config.data.name, 0))


def doubts(config: ConfigDict) -> list[str]:
    """One line for each combination in a valid config that is probably a mistake."""
    return [rule.line.format(c=config) for rule in DOUBTS if rule.broken(config)]


def remarks(config: ConfigDict) -> list[str]:
    """One line for each key of a valid config that is not at its default and has no effect beside the others."""
    flat, idle = flatten(config), unread(config)
    return [
        f"{key} = {flat[key]!r} has no effect where {row.read_by[0]} is {flat[row.read_by[0]]!r}"
        for key, row in KEYS.items()
        if row.read_by and key in idle and flat[key] != row.default
    ]


def refusal(key: str, value: object) -> str:
    """Why a value is not one of a key's, and what is."""
    default, legal = KEYS[key].default, KEYS[key].legal
    best = closest_name(value, legal.names) if isinstance(value, str) else None
    remedy = f"did you mean {best!r}?" if best not in (None, value) else f"the default is {default!r}"
    return f"config.{key}: {value!r} is not {legal.text}; {remedy}"


def _validate_net(net: ConfigDict, size: int) -> None:
    """Whether the levels of the U-Net suit images of this height (0: unknown) and attention has its heads."""
    levels = len(net.multipliers)
    unit = net.block_size * 2 ** (levels - 1)
    if size % unit:
        raise ValueError(
            f"config.net.multipliers: {levels} levels need a size that is a multiple of {unit}, and the images have "
            f"{size} pixels; use fewer levels or another net.block_size, or set config.data.size where the data set "
            "allows it"
        )
    heights = [size // net.block_size >> level for level in range(levels)]
    unreached = [height for height in net.attention if height not in heights]
    if size and unreached:
        raise ValueError(
            f"config.net.attention: {unreached[0]} is no height that the images take in {levels} levels; "
            f"use some of {', '.join(map(str, heights))}, or () for attention in the middle alone"
        )
    attended = {m for m, height in zip(net.multipliers, heights, strict=True) if size and height in net.attention}
    for width in sorted(net.channels * m for m in attended | {net.multipliers[-1]}):
        if width % net.heads:
            raise ValueError(
                f"config.net.heads: {net.heads} heads do not divide the {width} channels of an attention block; "
                f"use a divisor of {width}"
            )
