"""The score view of configs/digits.py: noise that explodes, Langevin steps beside the sampler's.

Data: the 1,797 real digits that come with scikit-learn.
Paper row: none; training as in NCSN (geometric noise levels, denoising score matching with weight sigma^2, which is
L_simple), with DDPM's network and 1000 levels; samples by predictor and corrector as in score SDE.
Levels: from about one of 256 grey levels to the largest distance between two digits, 9.6 (Song and Ermon 2020,
technique 1).
Score: 4.13 +- 0.04 bits/dim on 64 held-out images; fd_digits 8.38 for 64 samples (64 held-out images: 7.64).
Cost: that of configs/digits.py and, for the corrector, another network call at each of the 1000 steps of a sample.

    python scripts/train.py --config=configs/digits_ve.py
"""

from configs.digits import get_config as digits


def get_config():
    config = digits()
    config.diffusion.schedule = "geometric"
    config.diffusion.sigma_T = 10.0

    config.sample.sampler = "predictor_corrector"
    return config
