"""CIFAR-10 by EDM's recipe with DDPM's network: the differences from configs/cifar10.py.

Paper row: Karras et al. 2022, table 2, unconditional CIFAR-10, configuration F with augmentation. The published network
is DDPM++ with 56 M; this one is DDPM's with 35.7 M parameters. The published augmentation resamples images at twice
the resolution through a wavelet filter (sym6); this one interpolates linearly between pixels. The published noise
levels are continuous; here there are 1,000.
Score: published FID 1.97 with 35 network calls a sample. This config: not measured.
Cost: 390,625 steps of 512 images, 200 million in all: twice the images of configs/cifar10.py, 7e18 FLOP.

    python scripts/train.py --config=configs/cifar10_edm.py
"""

from configs.cifar10 import get_config as cifar10


def get_config():
    config = cifar10()
    config.paper = ""

    config.data.augment = 0.12  # appendix F.2; with data.flip, flips are drawn for every image, as published

    config.diffusion.schedule = "ve_karras"  # eq. 5, at discrete levels
    config.diffusion.T = 1000  # this project's choice: the published levels are continuous
    config.diffusion.sigma_1 = 0.002  # table 1: sigma_min
    config.diffusion.sigma_T = 80.0  # table 1: sigma_max
    config.diffusion.rho = 7.0  # table 1
    config.diffusion.sigma_data = 0.5  # table 1
    config.diffusion.parameterization = "edm"  # eq. 7; table 1: c_skip, c_out, c_in
    config.net.time = "log_noise"  # table 1: c_noise
    config.net.dropout = 0.13  # appendix F.3
    config.objective.name = "edm"  # table 1: loss weighting
    config.objective.timesteps = "lognormal"  # table 1: noise distribution
    config.objective.P_mean = -1.2  # table 1
    config.objective.P_std = 1.2  # table 1

    config.optim.lr = 1e-3  # appendix F.3
    config.optim.warmup_steps = 19_531  # appendix F.3: 10 million images
    config.optim.clip = 0.0  # code
    config.optim.ema_decay = 0.5 ** (512 / 500_000)  # appendix F.3: a half-life of 0.5 million images
    config.optim.ema_warmup = True  # code: a ramp-up, of another form
    config.train.batch_size = 512  # appendix F.3
    config.train.steps = 390_625  # appendix F.3: 200 million images

    config.sample.sampler = "edm"  # algorithm 1
    config.sample.grid = "karras18"  # appendix D: 18 steps, 35 network calls
    config.sample.clip = False  # algorithm 1
    config.eval.final = False  # a bound over only the 18 steps of the sampler is uninformative
    return config
