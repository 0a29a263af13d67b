"""CelebA-HQ at 256x256 as in the DDPM paper.

Paper row: Ho et al. 2020, figures 1, 7, 8 and 9. 113.7 M parameters, fixed-small variance, no dropout.
Score: the paper shows samples and gives none. An independent run reached FID 8.85 after 393k steps.
Cost: 500,000 steps of 64 images at 95 TFLOP, 4.8e19 FLOP: 63 hours on a TPU v3-8 (2.2 steps/s) as published.
TFDS cannot fetch these images by itself: prepare celeb_a_hq/256 by hand as its page says, or use a folder of images.
The set has no test split: every twentieth image is held out for the bound.

    python scripts/train.py --config=configs/celebahq256.py
    python scripts/train.py --config=configs/celebahq256.py --config.data.name=folder:PATH
"""

from diffusion.config.config import default_config


def get_config():
    config = default_config()
    config.paper = "celebahq256"
    config.data.name = "tfds:celeb_a_hq/256"
    config.data.size = 256

    config.diffusion.variance = "fixed_small"
    config.net.multipliers = (1, 1, 2, 2, 4, 4)
    config.net.dropout = 0.0

    config.optim.lr = 2e-5
    config.train.batch_size = 64
    config.train.steps = 500_000

    config.sample.n = 16
    config.sample.batch_size = 16
    config.eval.n = 64
    config.eval.batch_size = 16
    config.eval.quick_n = 32
    return config
