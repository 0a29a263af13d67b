"""CelebA-HQ at 256x256 as in the DDPM paper: the differences from configs/cifar10.py.

Paper row: Ho et al. 2020, figures 1, 7, 8 and 9. 113.7 M parameters, fixed-small variance, no dropout.
Score: none published; the paper shows samples. An independent run reached FID 8.85 after 393k steps.
Cost: 500,000 steps of 64 images at 95 TFLOP, 4.7e19 FLOP: 63 hours on a TPU v3-8 (2.2 steps/s) as published.
TFDS cannot fetch these images by itself: prepare celeb_a_hq/256 manually as its page says, or use a folder of images.
The set has no test split: every twentieth image is held out for the bound.

    python scripts/train.py --config=configs/celebahq256.py
    python scripts/train.py --config=configs/celebahq256.py --config.data.name=folder:PATH
"""

from configs.cifar10 import get_config as cifar10


def get_config():
    config = cifar10()
    config.paper = "celebahq256"
    config.data.name = "tfds:celeb_a_hq/256"  # code
    config.data.size = 256  # section 4

    config.diffusion.variance = "fixed_small"  # section 3.2: sigma_t^2 = beta_tilde_t; the choice for this set: code
    config.net.multipliers = (1, 1, 2, 2, 4, 4)  # six resolutions, 256x256 to 8x8: appendix B; widths: code
    config.net.dropout = 0.0  # appendix B: dropout on CIFAR-10 alone

    config.optim.lr = 2e-5  # appendix B: 2e-4 seemed unstable for 256x256 images
    config.train.batch_size = 64  # appendix B
    config.train.steps = 500_000  # appendix B: 0.5 M

    config.sample.n = 16  # from here on: how this project reports
    config.sample.batch_size = 16
    config.eval.n = 64
    config.eval.batch_size = 16
    config.eval.quick_n = 32
    return config
