"""LSUN Bedroom at 256x256 as in the DDPM paper.

Paper row: Ho et al. 2020, table 3, Bedroom. 113.7 M parameters, fixed-small variance, no dropout. The paper says that
only this set was not flipped; a remark in the published code says so of Cat instead. This config follows the paper.
Score: FID 6.36 from 50,000 samples (StyleGAN2's code). The larger model of the table (4.90) has some 256 M
parameters, as net.channels = 192 gives.
Cost: 2,400,000 steps of 64 images at 95 TFLOP: 300 hours on a TPU v3-8 (2.2 steps/s) as published.

    python scripts/train.py --config=configs/lsun_bedroom.py
    python scripts/train.py --config=configs/lsun_bedroom.py --config.data.name=folder:PATH
"""

from configs.celebahq256 import get_config as celebahq256


def get_config():
    config = celebahq256()
    config.paper = "lsun_bedroom"
    config.data.name = "tfds:lsun/bedroom"  # section 4
    config.data.flip = False  # appendix B: flips for all sets except this
    config.train.steps = 2_400_000  # appendix B: 2.4 M
    return config
