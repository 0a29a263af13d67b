"""Every name that a config may use, and the value that it stands for.

Adding a schedule, parameterisation, variance, objective, timestep distribution, sampler or data set is a function in
its own file, a row here, and its name in keys.py; tests/test_batteries.py then tests it. Grids are in respacing.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion import parameterization, schedules, timesteps, variance, weighting
from diffusion.data import cifar10, embedded, folder, mnist, tfds
from diffusion.data.source import Source
from diffusion.nets.convention import IMPROVED, ORIGINAL, Convention
from diffusion.objective import Objective
from diffusion.parameterization import Parameterization
from diffusion.process import Process
from diffusion.sampling import ancestral, ddim, dpm_solver, heun
from diffusion.sampling.loop import Sampler
from diffusion.timesteps import Timesteps
from diffusion.training import sharding
from diffusion.variance import Variance

# name -> (config.diffusion) -> alpha_bar[0..T]
VP_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {
    "linear": lambda c: schedules.linear(c.T, c.beta_1, c.beta_T),
    "quad": lambda c: schedules.quad(c.T, c.beta_1, c.beta_T),
    "const": lambda c: schedules.const(c.T, c.beta_T),
    "jsd": lambda c: schedules.jsd(c.T),
    "warmup10": lambda c: schedules.warmup(c.T, c.beta_1, c.beta_T, share=0.1),
    "warmup50": lambda c: schedules.warmup(c.T, c.beta_1, c.beta_T, share=0.5),
    "cosine": lambda c: schedules.cosine(c.T),
    "sigmoid": lambda c: schedules.sigmoid(c.T, c.beta_1, c.beta_T),
}

# name -> (config.diffusion) -> sigma[0..T]
VE_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {
    "constant": lambda c: schedules.constant(c.T, c.sigma_T),
    "geometric": lambda c: schedules.geometric(c.T, c.sigma_1, c.sigma_T),
}

PARAMETERIZATIONS: dict[str, Parameterization] = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "mu": parameterization.mu,
    "v": parameterization.v,
}

# name -> (variance, output channels per data channel)
VARIANCES: dict[str, tuple[Variance, int]] = {
    "fixed_small": (variance.fixed_small, 1),
    "fixed_large": (variance.fixed_large, 1),
    "learned": (variance.learned, 2),
    "learned_range": (variance.learned_range, 2),
}

# name -> (config.objective) -> Objective
OBJECTIVES: dict[str, Callable[[ConfigDict], Objective]] = {
    "simple": lambda c: Objective(weighting.native, vlb=0.0),  # noqa: ARG005
    "vlb": lambda c: Objective(None, vlb=1.0),  # noqa: ARG005
    "mu_mse": lambda c: Objective(weighting.mu_mse, vlb=0.0),  # noqa: ARG005
    "hybrid": lambda c: Objective(weighting.native, vlb=c.vlb_weight, freeze_mean=True),
    "p2": lambda c: Objective(partial(weighting.p2, gamma=c.p2_gamma, k=c.p2_k), vlb=0.0),
    "min_snr": lambda c: Objective(partial(weighting.min_snr, gamma=c.min_snr_gamma), vlb=0.0),
}

# name -> (T) -> Timesteps
TIMESTEPS: dict[str, Callable[[int], Timesteps]] = {
    "uniform": timesteps.uniform,
    "antithetic": timesteps.antithetic,
    "loss_second_moment": timesteps.loss_second_moment,
}

# name -> (process, variance, eta) -> Sampler
SAMPLERS: dict[str, Callable[[Process, Variance, float], Sampler]] = {
    "ancestral": lambda process, variance, eta: ancestral.ancestral(process, variance),  # noqa: ARG005
    "ddim": lambda process, variance, eta: ddim.ddim(process, eta),  # noqa: ARG005
    "dpm_solver": lambda process, variance, eta: dpm_solver.dpm_solver(process),  # noqa: ARG005
    "heun": lambda process, variance, eta: heun.heun(process),  # noqa: ARG005
}

SHARDINGS: dict[str, tuple[sharding.Rule, ...]] = {"replicated": sharding.REPLICATED, "fsdp": sharding.FSDP}

CONVENTIONS: dict[str, Convention] = {"original": ORIGINAL, "improved": IMPROVED}

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# name, or prefix ending in ":" -> (config.data, what follows the prefix, train) -> Source
SOURCES: dict[str, Callable[[ConfigDict, str, bool], Source]] = {
    "digits": lambda c, rest, train: embedded.digits(train),  # noqa: ARG005
    "cifar10": lambda c, rest, train: cifar10.cifar10(train, c.dir, c.download),  # noqa: ARG005
    "mnist": lambda c, rest, train: mnist.mnist(train, c.dir),  # noqa: ARG005
    "folder:": lambda c, rest, train: folder.folder(rest, train, c.size),
    "tfds:": lambda c, rest, train: tfds.tfds(rest, train, c.dir, c.size, c.download),
}
