"""The mathematics of the papers as pure functions of arrays: jax and numpy, no network, no config, no files.

    from diffusion import core

    process = core.vp(core.schedules.linear(1000))
    x_t = core.q_sample(process, x_0, t, eps)

Every module is an attribute (core.schedules, core.elbo), and so are the records and functions of EXPORTS. Both are
imported at first use, because schedules and grids need no jax.

Arguments stand in one order in core and sampling: keys; process or diffusion; parameterization, variance or sampler;
network or denoiser; arrays; t; options.
"""

from importlib import import_module
from typing import Any

MODULES = (
    *("array_types", "decoder", "elbo", "flow_likelihood", "gaussian", "objective", "parameterization"),
    *("forward_process", "respacing", "reverse_process", "schedules", "score", "timesteps", "variance", "weighting"),
)
EXPORTS = {
    "elbo": "Bound bits_per_dim",
    "gaussian": "Gaussian",
    "objective": "Objective Terms",
    "parameterization": "Parameterization Prediction to_eps",
    "forward_process": "Noised Process at flow noised prior q_marginal q_posterior q_sample q_step snr ve vp",
    "reverse_process": "Denoiser Diffusion Network clip from_network interpret reverse",
    "timesteps": "Timesteps",
}
"""Module -> its names that are attributes of the package."""
HOME = {name: module for module, names in EXPORTS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(f"{__name__}.{name}")
    if name in HOME:
        return getattr(import_module(f"{__name__}.{HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES, *HOME})
