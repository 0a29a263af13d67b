"""Checks of a config: `validate` refuses what cannot work."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten, lookup
from diffusion.config.misspelt_names import closest_name
from diffusion.config.schema import KEYS
from diffusion.core import respacing

LEARNED = ("learned", "learned_range")
SQUARED_ERRORS = ("simple", "mu_mse", "p2", "min_snr", "edm")
"""Objectives without a term for the variance."""
NO_WEIGHT_AT_0 = ("p2", "min_snr")
"""Objectives whose weight falls to 0 with the signal-to-noise ratio."""
SIGNAL_ENDS = ("jsd", "rectified")
"""Schedules with signal[T] = 0."""

OWN_SIZE = {"digits": 8, "cifar10": 32, "mnist": 28}
"""Height and width of the sets whose images come in one size."""


class Rule(NamedTuple):
    """A combination that cannot work: when it is broken, and one line with the remedy (`c` is the config)."""

    broken: Callable[[ConfigDict], bool]
    line: str


def _guided_without_signal(c: ConfigDict) -> bool:
    """Whether guidance acts at a step without signal, T; its last step is that of experiment/build_guidance.py."""
    return c.diffusion.schedule in SIGNAL_ENDS and round(c.sample.guidance_to * c.diffusion.T) >= c.diffusion.T


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
        lambda c: c.diffusion.schedule in SIGNAL_ENDS and c.diffusion.parameterization == "eps",
        "config.diffusion.parameterization: 'eps' does not go with schedule {c.diffusion.schedule!r}, which ends "
        "without signal, where x_0 cannot be read from eps; use velocity, x_0, mu or v, or another schedule",
    ),
    Rule(
        lambda c: c.diffusion.schedule in SIGNAL_ENDS and c.objective.name in NO_WEIGHT_AT_0,
        "config.objective.name: {c.objective.name!r} gives steps without signal no weight, and schedule "
        "{c.diffusion.schedule!r} ends with one, at which the network would never be trained; use objective simple, "
        "mu_mse or vlb, or another schedule",
    ),
    Rule(
        lambda c: c.diffusion.schedule in ("ve_geometric", "ve_karras") and c.diffusion.sigma_1 >= c.diffusion.sigma_T,
        "config.diffusion.sigma_1: {c.diffusion.sigma_1!r} must be below sigma_T = {c.diffusion.sigma_T!r}, "
        "since noise grows with t",
    ),
    Rule(
        lambda c: c.diffusion.schedule in SIGNAL_ENDS and c.net.time == "log_noise",
        "config.net.time: 'log_noise' is infinite at the end of schedule {c.diffusion.schedule!r}, which leaves no "
        "signal; use steps, or another schedule",
    ),
    Rule(
        lambda c: c.data.size not in (0, OWN_SIZE.get(c.data.name, c.data.size)),
        "config.data.size: {c.data.size!r} does not apply to {c.data.name!r}, whose images have a size of their own; "
        "set it to 0, or use folder:PATH or tfds:NAME",
    ),
    Rule(
        lambda c: c.data.crop > 0 and (c.data.size == 0 or c.data.name in OWN_SIZE),
        "config.data.crop: {c.data.crop!r} is the square that images are resized from; set config.data.size too, and "
        "use folder:PATH or tfds:NAME",
    ),
    Rule(
        lambda c: c.data.channels == 2 or (c.data.channels > 0 and not c.data.name.startswith("folder:")),
        "config.data.channels: {c.data.channels!r} does not apply to {c.data.name!r}; use 1 or 3 for folder:PATH, "
        "and 0 for sets that have channels of their own",
    ),
    Rule(
        lambda c: c.data.name.startswith("toy:") and (c.data.flip or c.data.size > 0),
        "config.data.flip: {c.data.name!r} has points, whose coordinates are not to be swapped or resized; "
        "set data.flip to false and leave data.size at 0",
    ),
    Rule(
        lambda c: c.data.name.startswith("toy:") and c.data.augment > 0,
        "config.data.augment: {c.data.name!r} has points, and no image to be transformed; set data.augment to 0",
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
        lambda c: c.sample.guidance_from >= c.sample.guidance_to,
        "config.sample.guidance_from: {c.sample.guidance_from!r} must be below sample.guidance_to = "
        "{c.sample.guidance_to!r}: the steps of guidance lie between these shares of T",
    ),
    Rule(
        lambda c: c.sample.sampler == "edm" and c.sample.churn > 0 and c.sample.churn_from > c.sample.churn_to,
        "config.sample.churn_from: {c.sample.churn_from!r} is above sample.churn_to = {c.sample.churn_to!r}: no level "
        "lies between them, and none would be churned",
    ),
    Rule(
        lambda c: c.sample.guidance > 0 and c.sample.classifier != "" and _guided_without_signal(c),
        "config.sample.classifier: schedule {c.diffusion.schedule!r} ends without signal, where x_0 moves infinitely "
        "with a gradient; set sample.guidance_to below 1, guide by label dropout, or use another schedule",
    ),
)


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


def refusal(key: str, value: object) -> str:
    """Why a value is not one of a key's, and what is."""
    default, legal = KEYS[key].default, KEYS[key].legal
    best = closest_name(value, legal.names) if isinstance(value, str) else None
    remedy = f"did you mean {best!r}?" if best not in (None, value) else f"the default is {default!r}"
    return f"config.{key}: {value!r} is not {legal.text}; {remedy}"


def _validate_net(net: ConfigDict, size: int) -> None:
    """Whether the levels of the U-Net suit images of this height (0: unknown) and attention has its heads."""
    levels = len(net.multipliers)
    if size % net.block_size:
        raise ValueError(
            f"config.net.block_size: {net.block_size} does not divide the {size} pixels of the images; use a divisor"
        )
    size //= net.block_size
    heights = [size >> level for level in range(levels)]
    unit = 2 ** (levels - 1)
    if size % unit:
        halvings = (size & -size).bit_length() - 1
        unit_name = "blocks" if net.block_size > 1 else "pixels"
        raise ValueError(
            f"config.net.multipliers: {levels} levels need a size that is a multiple of {unit}, and the images have "
            f"{size} {unit_name}; use at most {halvings + 1} levels, or set config.data.size where the data set allows "
            "it"
        )
    unreached = [height for height in net.attention if height not in heights]
    if size and unreached:
        raise ValueError(
            f"config.net.attention: {unreached[0]} is no height that images of {size} pixels take in {levels} levels; "
            f"use some of {', '.join(map(str, heights))}, or () for attention in the middle alone"
        )
    attended = {m for m, height in zip(net.multipliers, heights, strict=True) if size and height in net.attention}
    for width in sorted(net.channels * m for m in attended | {net.multipliers[-1]}):
        if width % net.heads:
            raise ValueError(
                f"config.net.heads: {net.heads} heads do not divide the {width} channels of an attention block; "
                f"use a divisor of {width}"
            )
