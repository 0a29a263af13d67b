"""Checks of a config: `validate` refuses what cannot work, `doubts` names mistakes, `remarks` keys without effect."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten, lookup, unread
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

PERIODS = ("log_every", "sample_every", "eval_every", "checkpoint_every", "keep_every")
"""The keys of config.train at whose multiples a dispatch ends."""

OWN_SIZE = {"digits": 8, "cifar10": 32, "mnist": 28}
"""Height and width of the sets whose images come in one size."""


class Rule(NamedTuple):
    """A combination that cannot work: when it is broken, and one line with the remedy (`c` is the config)."""

    broken: Callable[[ConfigDict], bool]
    line: str


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
        lambda c: c.sample.guidance > 0 and c.sample.classifier != "" and c.diffusion.schedule in SIGNAL_ENDS,
        "config.sample.classifier: schedule {c.diffusion.schedule!r} ends without signal, where x_0 moves infinitely "
        "with a gradient; guide by label dropout instead, or use another schedule",
    ),
)

DOUBTS = (
    Rule(
        lambda c: c.diffusion.parameterization == "mu" and c.sample.clip,
        "config.sample.clip: x_0_hat is not clipped with parameterization 'mu', whose output is the reverse mean "
        "itself and stays as it is in the published sampler; set sample.clip to false",
    ),
    Rule(
        lambda c: c.objective.timesteps == "loss_second_moment" and c.objective.name != "vlb",
        "config.objective.timesteps: 'loss_second_moment' does not help objective {c.objective.name!r}, whose losses "
        "differ little between steps (Improved DDPM section 3.3); it is meant for objective vlb, others use uniform",
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
"""Combinations that work but are probably mistakes."""

NO_EFFECT = (
    Rule(
        lambda c: c.net.label_dropout > 0 and not c.net.class_conditional,
        "net.label_dropout = {c.net.label_dropout!r} has no effect where net.class_conditional is False",
    ),
    Rule(
        lambda c: c.data.background != "white" and not c.data.name.startswith(("folder:", "tfds:")),
        "data.background = {c.data.background!r} has no effect on {c.data.name!r}, whose images have no transparency",
    ),
    Rule(
        lambda c: c.sample.classifier != "" and not c.sample.guidance,
        "sample.classifier = {c.sample.classifier!r} has no effect where sample.guidance is 0.0",
    ),
    Rule(
        lambda c: (c.sample.guidance_from, c.sample.guidance_to) != (0.0, 1.0) and not c.sample.guidance,
        "sample.guidance_from = {c.sample.guidance_from!r} and sample.guidance_to = {c.sample.guidance_to!r} have no "
        "effect where sample.guidance is 0.0",
    ),
)
"""Keys that another key, not a choice of names, leaves without effect."""


def doubts(config: ConfigDict) -> list[str]:
    """One line for each combination in a valid config that is probably a mistake."""
    return [rule.line.format(c=config) for rule in DOUBTS if rule.broken(config)]


def remarks(config: ConfigDict) -> list[str]:
    """One line for each key of a valid config that is not at its default and has no effect beside the others."""
    flat = flatten(config)
    lines = [
        f"{key} = {flat[key]!r} has no effect where {reader} is {flat[reader]!r}"
        for key in sorted(unread(config))
        if flat[key] != KEYS[key].default and (reader := (KEYS[key].read_by or ("",))[0])
    ]
    return lines + [rule.line.format(c=config) for rule in NO_EFFECT if rule.broken(config)]


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
