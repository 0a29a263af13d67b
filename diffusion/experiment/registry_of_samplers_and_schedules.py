"""Every name that a config may use, and the value that it stands for.

Adding a schedule, parameterisation, variance, objective, timestep distribution, sampler or data set is a function in
its own file, a row here, and its name in config/keys_with_legal_values.py; the tests of this module then test it.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion.core import parameterization, schedules, timesteps, variance, weighting
from diffusion.core.array_types import Array
from diffusion.core.forward_process import Process, flow, ve, vp
from diffusion.core.objective import Objective
from diffusion.core.parameterization import Parameterization
from diffusion.core.timesteps import Timesteps
from diffusion.core.variance import Variance
from diffusion.data import augmentation, cifar10, digits, image_folder, mnist, tfds, toy_points
from diffusion.data.augmentation import Augment
from diffusion.data.dataset_interface import Splits
from diffusion.distributed import sharding
from diffusion.nets.conventions_of_ddpm_and_improved_unets import IMPROVED, ORIGINAL, Convention
from diffusion.nets.mlp import MLP
from diffusion.nets.network_interface import Net
from diffusion.nets.unet import UNet
from diffusion.sampling import (
    ancestral,
    annealed_langevin,
    ddim,
    dpm_solver,
    edm,
    heun,
    predictor_corrector,
    probability_flow,
    reverse_diffusion,
)
from diffusion.sampling.predictor_corrector import by_noise
from diffusion.sampling.sampling_loop import Sampler


def _levels(
    make: Callable[..., Process], schedule: Callable[[ConfigDict], np.ndarray], c: ConfigDict, ts: np.ndarray
) -> Process:
    return make(schedule(c)[ts], base_t=ts, sigma_data=c.sigma_data)


def built(module: type, c: ConfigDict, **rest: Any) -> Any:
    """A Flax module whose fields are the keys of config.net of the same names, and `rest`."""
    values = {**dict(c.items()), "compute_dtype": DTYPES[c.dtype], "convention": CONVENTIONS[c.convention]}
    names = {field.name for field in dataclasses.fields(module)} - {"name"}  # Flax's own name of a module
    return module(**{key: value for key, value in values.items() if key in names}, **rest)


def _network(module: type[Net], c: ConfigDict, out_channels: int, classes: int) -> Net:
    null_label = classes > 0 and c.label_dropout > 0
    return built(module, c, out_channels=out_channels, classes=classes, null_label=null_label)


# name -> (config.diffusion) -> alpha_bar[0..T]
VP_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {
    "linear": lambda c: schedules.linear(c.T, c.beta_1, c.beta_T),
    "quad": lambda c: schedules.quad(c.T, c.beta_1, c.beta_T),
    "warmup10": lambda c: schedules.warmup(c.T, c.beta_1, c.beta_T, share=0.1),
    "warmup50": lambda c: schedules.warmup(c.T, c.beta_1, c.beta_T, share=0.5),
    "sigmoid": lambda c: schedules.sigmoid(c.T, c.beta_1, c.beta_T),
    "const": lambda c: schedules.const(c.T, c.beta_T),
    "jsd": lambda c: schedules.jsd(c.T),
    "cosine": lambda c: schedules.cosine(c.T),
}

# name -> (config.diffusion) -> sigma[0..T]
VE_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {
    "ve_constant": lambda c: schedules.constant(c.T, c.sigma_T),
    "ve_geometric": lambda c: schedules.geometric(c.T, c.sigma_1, c.sigma_T),
    "ve_karras": lambda c: schedules.karras(c.T, c.sigma_1, c.sigma_T, c.rho),
}

# name -> (config.diffusion) -> u[0..T]
FLOW_SCHEDULES: dict[str, Callable[[ConfigDict], np.ndarray]] = {"rectified": lambda c: schedules.rectified(c.T)}

# name -> (config.diffusion, steps that are kept) -> Process
PROCESSES: dict[str, Callable[[ConfigDict, np.ndarray], Process]] = {
    **{name: partial(_levels, vp, schedule) for name, schedule in VP_SCHEDULES.items()},
    **{name: partial(_levels, ve, schedule) for name, schedule in VE_SCHEDULES.items()},
    **{name: partial(_levels, flow, schedule) for name, schedule in FLOW_SCHEDULES.items()},
}

PARAMETERIZATIONS: dict[str, Parameterization] = {
    "eps": parameterization.eps,
    "x_0": parameterization.x_0,
    "mu": parameterization.mu,
    "v": parameterization.v,
    "velocity": parameterization.velocity,
    "edm": parameterization.edm,
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
    "edm": lambda c: Objective(weighting.edm, vlb=0.0),  # noqa: ARG005
}

# name -> (process, config.objective) -> Timesteps
TIMESTEPS: dict[str, Callable[[Process, ConfigDict], Timesteps]] = {
    "uniform": lambda process, c: timesteps.uniform(process.T),  # noqa: ARG005
    "antithetic": lambda process, c: timesteps.antithetic(process.T),  # noqa: ARG005
    "loss_second_moment": lambda process, c: timesteps.loss_second_moment(process.T),  # noqa: ARG005
    "lognormal": lambda process, c: timesteps.lognormal(process, c.P_mean, c.P_std),
}

# name -> (process, the one that the network was trained on, variance, config.sample) -> Sampler
SAMPLERS: dict[str, Callable[[Process, Process, Variance, ConfigDict], Sampler]] = {
    "ancestral": lambda process, base, variance, c: ancestral(process, variance),  # noqa: ARG005
    "ddim": lambda process, base, variance, c: ddim(process, c.eta),  # noqa: ARG005
    "dpm_solver": lambda process, base, variance, c: dpm_solver(process),  # noqa: ARG005
    "heun": lambda process, base, variance, c: heun(process),  # noqa: ARG005
    "edm": lambda process, base, variance, c: edm(  # noqa: ARG005
        process, base, c.churn, c.churn_from, c.churn_to, c.churn_noise
    ),
    "reverse_diffusion": lambda process, base, variance, c: reverse_diffusion(process),  # noqa: ARG005
    "probability_flow": lambda process, base, variance, c: probability_flow(process),  # noqa: ARG005
    "annealed_langevin": lambda process, base, variance, c: annealed_langevin(  # noqa: ARG005
        process, c.corrector_steps, c.corrector_snr
    ),
    "predictor_corrector": lambda process, base, variance, c: predictor_corrector(  # noqa: ARG005
        process, ancestral(process, variance), c.corrector_steps, by_noise(process, c.corrector_snr)
    ),
}

# name -> (config.net, channels of the output, classes of the data or 0) -> the network
NETWORKS: dict[str, Callable[[ConfigDict, int, int], Net]] = {
    "unet": lambda *arguments: _network(UNet, *arguments),
    "mlp": lambda *arguments: _network(MLP, *arguments),
}


def _steps(config: ConfigDict, process: Process) -> Array:
    return process.time * (1000.0 / config.diffusion.T if config.net.rescale_time else 1.0)


def _log_noise(config: ConfigDict, process: Process) -> Array:  # noqa: ARG001
    log_sigma = jnp.log(process.noise[1:]) - jnp.log(process.signal[1:])
    return jnp.concatenate([log_sigma[:1], log_sigma]) / 4


# name -> (config, process) -> Process.time, what the network receives for each step
TIMES: dict[str, Callable[[ConfigDict, Process], Array]] = {"steps": _steps, "log_noise": _log_noise}


def timed(config: ConfigDict, process: Process) -> Process:
    """The process with the times that a config's network takes."""
    return process._replace(time=TIMES[config.net.time](config, process))


def clips(config: ConfigDict) -> bool:
    """Whether x_0_hat is clipped: config.sample.clip, but never for a network that predicts mu."""
    return config.sample.clip and PARAMETERIZATIONS[config.diffusion.parameterization].clips


def augment(c: ConfigDict) -> Augment:
    """What config.data does to training images; a flip of data.flip is one that the network is given, if any is."""
    if c.augment:
        return partial(augmentation.geometric, p=c.augment, p_flip=1.0 if c.flip else c.augment)
    return augmentation.flipped if c.flip else augmentation.unchanged


SHARDINGS: dict[str, tuple[sharding.Rule, ...]] = {
    "replicated": sharding.REPLICATED,
    "fsdp": sharding.FSDP,
    "zero1": sharding.ZERO1,
}


CONVENTIONS: dict[str, Convention] = {"original": ORIGINAL, "improved": IMPROVED}

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# name, or prefix ending in ":" -> (config.data, what follows the prefix) -> (train) -> Source
SOURCES: dict[str, Callable[[ConfigDict, str], Splits]] = {
    "digits": lambda c, rest: digits.digits,  # noqa: ARG005
    "cifar10": lambda c, rest: partial(cifar10.cifar10, data_dir=c.dir, download=c.download),  # noqa: ARG005
    "mnist": lambda c, rest: partial(mnist.mnist, data_dir=c.dir),  # noqa: ARG005
    "folder:": lambda c, rest: image_folder.folder(rest, c.size, c.crop, c.channels, c.background),
    "toy:": lambda c, rest: partial(toy_points.toy, rest),  # noqa: ARG005
    "tfds:": lambda c, rest: partial(
        tfds.tfds, rest, data_dir=c.dir, size=c.size, crop=c.crop, background=c.background
    ),
}
