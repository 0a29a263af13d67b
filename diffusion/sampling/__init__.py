"""Samplers: each a file, each seeing only `denoise(x_t, t)`; `sample` runs any of them.

    from diffusion.sampling import ddim, image_keys, prior_sample, sample

    keys = image_keys(seed, jnp.arange(n))
    x_0 = sample(keys, process, ddim(process), denoise, prior_sample(keys, process, shape)).x_0

A file with the name of its sampler gives way to it: `sampling.ddim` is the function of sampling/ddim.py. All others
are modules: sampling_loop, editing, guidance, inpainting, ddim_latents, langevin.
"""
# ruff: noqa: F401 (names of the package)

from diffusion.sampling.ancestral import ancestral
from diffusion.sampling.ddim import ddim
from diffusion.sampling.dpm_solver import dpm_solver
from diffusion.sampling.edm import edm
from diffusion.sampling.heun import heun
from diffusion.sampling.langevin import annealed_langevin
from diffusion.sampling.predictor_corrector import predictor_corrector
from diffusion.sampling.probability_flow import probability_flow
from diffusion.sampling.reverse_sde import reverse_diffusion
from diffusion.sampling.sampling_loop import Sample, Sampler, image_keys, prior_sample, sample
