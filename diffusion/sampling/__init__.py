"""Samplers: each a file, each seeing only `denoise(x_t, t)`; `sample` runs any of them.

    from diffusion.sampling import ddim, image_keys, prior_sample, sample

    keys = image_keys(seed, jnp.arange(n))
    x_0 = sample(keys, process, ddim(process), denoise, prior_sample(keys, process, shape)).x_0

A file with the name of its sampler gives way to it: `sampling.ddim` is the function of sampling/ddim.py. All others
are modules: loop, editing, guidance, inpainting, ddim_inversion, latent_interpolation, langevin.
"""

from diffusion.sampling.ancestral import ancestral as ancestral
from diffusion.sampling.ddim import ddim as ddim
from diffusion.sampling.dpm_solver import dpm_solver as dpm_solver
from diffusion.sampling.edm import edm as edm
from diffusion.sampling.heun import heun as heun
from diffusion.sampling.langevin import annealed_langevin as annealed_langevin
from diffusion.sampling.loop import (
    Sample as Sample,
)
from diffusion.sampling.loop import (
    Sampler as Sampler,
)
from diffusion.sampling.loop import (
    image_keys as image_keys,
)
from diffusion.sampling.loop import (
    prior_sample as prior_sample,
)
from diffusion.sampling.loop import (
    sample as sample,
)
from diffusion.sampling.predictor_corrector import predictor_corrector as predictor_corrector
from diffusion.sampling.probability_flow import probability_flow as probability_flow
from diffusion.sampling.reverse_diffusion import reverse_diffusion as reverse_diffusion
