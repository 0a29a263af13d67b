"""What a start-up report says of a valid config: `doubts` names probable mistakes, `remarks` keys without effect."""

import numpy as np
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten, unread
from diffusion.config.schema import KEYS
from diffusion.config.validation import SIGNAL_ENDS, Rule
from diffusion.core import respacing

CHURN = {name: KEYS[f"sample.{name}"].default for name in ("churn_from", "churn_to", "churn_noise")}
"""Keys of config.sample that qualify its churn, and their defaults."""
WITH_BOUND = ("vlb", "hybrid")
"""Objectives with a term of the bound."""

PERIODS = ("log_every", "sample_every", "eval_every", "checkpoint_every", "keep_every")
"""The keys of config.train at whose multiples a dispatch ends."""


def _skips_steps(c: ConfigDict) -> bool:
    """Whether samples visit fewer than all T steps."""
    T = c.diffusion.T
    return c.sample.grid != "" and len(respacing.parse(c.sample.grid)(np.arange(T + 1.0))) < T


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
        lambda c: c.objective.timesteps == "lognormal" and c.objective.name in WITH_BOUND,
        "config.objective.timesteps: 'lognormal' has a density of its own: objective {c.objective.name!r} weights the "
        "terms of the bound by it, and train/vlb_bits_per_dim is no bound; use uniform, or loss_second_moment for vlb",
    ),
    Rule(
        lambda c: c.objective.timesteps == "lognormal" and c.diffusion.schedule in SIGNAL_ENDS,
        "config.objective.timesteps: 'lognormal' never draws the last step of schedule {c.diffusion.schedule!r}, which "
        "has no signal and where sampling starts; use uniform, or many steps so that the one before it is close",
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
        lambda c: c.sample.sampler == "edm" and not c.sample.churn and any(c.sample[k] != CHURN[k] for k in CHURN),
        "sample.churn_from = {c.sample.churn_from!r}, sample.churn_to = {c.sample.churn_to!r} and sample.churn_noise = "
        "{c.sample.churn_noise!r} have no effect where sample.churn is 0.0",
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
