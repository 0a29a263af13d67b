"""The elementary diffusion on 8x8 digits: noise of one variance at every step, nothing is scaled.

Data: the 1,797 real digits that come with scikit-learn.
Paper row: none; the method is that of Nakkiran et al. 2024 ("Step-by-step diffusion: an elementary tutorial"):
x_{u + du} = x_u + N(0, sigma_q^2 du) on [0, 1] with sigma_q = sigma_T and du = 1 / T; its Algorithm 1 is the ancestral
sampler with variance fixed_large. The regression of E[x_{t-1} | x_t], parameterisation mu, differs from x_t by 1 / t
of the way to x_0, which a network that answers in units of sigma_T cannot resolve; by the tutorial's Claim 2 it follows
from E[x_0 | x_t], which is what this network predicts. min_snr weights spread training evenly over the logarithm of
sigma, where a constant rate of noise puts nearly all steps at large sigma. Network and training are those of
configs/digits.py.
Score: 4.42 +- 0.05 bits/dim on 64 held-out images; fd_digits 7.01 for 64 samples (64 held-out images: 7.64).
Cost: that of configs/digits.py.

    python scripts/train.py --config=configs/digits_elementary.py
"""

from configs.digits import get_config as digits


def get_config():
    config = digits()
    config.diffusion.schedule = "constant"
    config.diffusion.sigma_T = 5.0
    config.diffusion.parameterization = "x_0"
    config.objective.name = "min_snr"
    return config
