"""Configs that are legal but hardly meant: each gets a line, published ones get none."""

from pathlib import Path

import pytest

from diffusion.config import default_config
from diffusion.config.config_files import load
from diffusion.config.validation import doubts

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_raise_no_doubt(path):
    assert doubts(load(path)) == []


def test_an_average_that_keeps_untrained_weights_is_doubted():
    """0.999^1000 = 0.37 of the first weights are left; 0.05 is reached at 2995 steps."""
    config = default_config()
    config.optim.ema_decay = 0.999
    config.train.steps = 1000
    assert len(doubts(config)) == 1 and "0.999" in doubts(config)[0] and "ema_warmup" in doubts(config)[0]
    config.train.steps = 2994
    assert len(doubts(config)) == 1
    config.train.steps = 2995
    assert doubts(config) == []
    config.train.steps = 1000
    config.optim.ema_warmup = True
    assert doubts(config) == []


def test_a_warm_up_longer_than_the_run_is_doubted():
    config = default_config()
    config.optim.ema_decay, config.train.steps, config.optim.warmup_steps = 0.9, 100, 100
    assert doubts(config) == []
    config.optim.warmup_steps = 101
    (line,) = doubts(config)
    assert "after 100 steps a warm-up of 101" in line


def test_dispatches_that_the_periods_cut_to_pieces_are_doubted():
    """64 steps in a call with log_every = 100: one call of 64 and 36 of one step each."""
    config = default_config()
    config.train.steps_per_dispatch, config.train.log_every = 64, 100
    assert len(doubts(config)) == 1 and "64 does not divide" in doubts(config)[0]
    config.train.steps_per_dispatch = 50
    assert doubts(config) == []
    for key in ("sample_every", "eval_every", "checkpoint_every", "keep_every"):
        config.train[key] = 75
        assert len(doubts(config)) == 1
        config.train[key] = 0
    assert doubts(config) == []


@pytest.mark.parametrize("name", ["vlb", "hybrid"])
def test_a_bound_over_a_density_of_its_own_is_doubted(name):
    """The weights of lognormal are 1: what is logged as the bound would be a mean over that density."""
    config = default_config()
    config.diffusion.variance, config.objective.name = "learned_range", name
    assert doubts(config) == []
    config.objective.timesteps = "lognormal"
    (line,) = doubts(config)
    assert "would weight the terms of a bound" in line


def test_a_first_step_of_sampling_that_is_never_trained_is_doubted():
    config = default_config()
    config.diffusion.schedule, config.diffusion.parameterization = "rectified", "velocity"
    assert doubts(config) == []
    config.objective.timesteps = "lognormal"
    (line,) = doubts(config)
    assert "never draws the last step of schedule jsd or rectified" in line
    config.diffusion.schedule = "cosine"
    assert doubts(config) == []


def test_a_learned_variance_on_longer_steps_is_doubted():
    config = default_config()
    config.diffusion.variance, config.objective.name = "learned", "hybrid"
    assert doubts(config) == []
    for fewer in ("999", "50"):
        config.sample.grid = fewer
        (line,) = doubts(config)
        assert f"too small for the longer steps of sample.grid = '{fewer}'; use learned_range" in line
    for every_step in ("full", "1000"):
        config.sample.grid = every_step
        assert doubts(config) == []
    config.sample.grid = "50"
    config.diffusion.variance = "learned_range"
    assert doubts(config) == []
