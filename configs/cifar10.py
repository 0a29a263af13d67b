"""CIFAR-10 as in the DDPM paper: its hyper-parameters, each with its place in the paper.

Paper row: Ho et al. 2020, table 1, "DDPM, L_simple"; table 2, "eps, L_simple". 35.7 M parameters.
Score: FID 3.17 (training set; 5.24 against the test set), IS 9.46, at most 3.75 bits/dim on the test set. Independent
runs of this recipe reached FID 9.2 after 47k steps, 5.8 after 94k, 4.1 after 187k, 3.3 after 421k, 3.2 after 796k.
Cost: 800,000 steps of 128 images, 3.6e18 FLOP: 10.6 hours on a TPU v3-8 (21 steps/s) as published; about 1.5 days on an
RTX 4090, 5 days on a V100 and a year on a laptop CPU. Smaller: configs/cifar10_small.py for a GPU, digits.py for a CPU.

    python scripts/train.py --config=configs/cifar10.py
"""

from diffusion.config import default_config


def get_config():
    config = default_config()
    config.paper = "cifar10"
    config.data.name = "cifar10"  # section 4: unconditional, 50,000 training images
    config.data.flip = True  # appendix B: random horizontal flips

    config.diffusion.schedule = "linear"  # section 4
    config.diffusion.T = 1000  # section 4
    config.diffusion.beta_1 = 1e-4  # section 4
    config.diffusion.beta_T = 0.02  # section 4
    config.diffusion.parameterization = "eps"  # section 3.2, eq. 11
    config.diffusion.variance = "fixed_large"  # section 3.2: sigma_t^2 = beta_t; the choice for CIFAR-10: code
    config.objective.name = "simple"  # section 3.4, eq. 14
    config.objective.timesteps = "uniform"  # algorithm 1, line 3

    config.net.name = "unet"  # section 4; appendix B
    config.net.channels = 128  # code; 35.7 M parameters: appendix B
    config.net.multipliers = (1, 2, 2, 2)  # four resolutions, 32x32 to 4x4: appendix B; widths: code
    config.net.blocks = 2  # appendix B: two residual blocks at each resolution
    config.net.attention = (16,)  # section 4: self-attention at 16x16
    config.net.heads = 1  # code
    config.net.dropout = 0.1  # appendix B
    config.net.scale_shift = False  # appendix B: the embedding of t is added in each residual block
    config.net.convention = "original"  # code: epsilon of norms, order of sines and cosines, padding

    config.optim.lr = 2e-4  # appendix B
    config.optim.warmup_steps = 5000  # code
    config.optim.clip = 1.0  # code
    config.optim.beta_1 = 0.9  # appendix B: Adam with its standard values
    config.optim.beta_2 = 0.999  # appendix B
    config.optim.eps = 1e-8  # appendix B
    config.optim.ema_decay = 0.9999  # appendix B
    config.train.batch_size = 128  # appendix B
    config.train.steps = 800_000  # appendix B

    config.sample.sampler = "ancestral"  # algorithm 2
    config.sample.grid = ""  # section 4: all T steps
    config.sample.clip = True  # code: x_0_hat is clipped to [-1, 1]

    config.train.sample_every = 10_000  # from here on: how this project reports and saves
    config.train.eval_every = 10_000
    config.train.checkpoint_every = 5_000
    return config
