"""CIFAR-10 as in the DDPM paper: every hyper-parameter is the published one.

Paper row: Ho et al. 2020, table 1, "DDPM, L_simple"; table 2, "eps, L_simple".
Score: FID 3.17 (training set; 5.24 against the test set), IS 9.46, at most 3.75 bits/dim on the test set. Independent
runs of this recipe reached FID 9.2 after 47k steps, 5.8 after 94k, 4.1 after 187k, 3.3 after 421k, 3.2 after 796k.
Cost: 800,000 steps of 128 images, 3.6e18 FLOP: 10.6 hours on a TPU v3-8 (21 steps/s) as published. On one GPU others
report about 6 steps/s (RTX 4090: a day and a half) and 1.8 (V100: 5 days). A laptop CPU needs about a year:
configs/cifar10_small.py is for one modest GPU, configs/digits.py for a CPU.

    python scripts/train.py --config=configs/cifar10.py
"""

from diffusion.config.config import default_config


def get_config():
    config = default_config()
    config.paper = "cifar10"
    return config
