"""LSUN Cat at 256x256 as in the DDPM paper.

Paper row: Ho et al. 2020, table 3, Cat. 113.7 M parameters, fixed-small variance, no dropout. Images are
flipped, as the paper says; a remark in the published code switches flips off for this set.
Score: FID 19.75 from 50,000 samples (StyleGAN2's code).
Cost: 1,800,000 steps of 64 images at 95 TFLOP: 230 hours on a TPU v3-8 (2.2 steps/s) as published.
The set has no test split: every twentieth image is held out for the bound.

    python scripts/train.py --config=configs/lsun_cat.py
    python scripts/train.py --config=configs/lsun_cat.py --config.data.name=folder:PATH
"""

from configs.celebahq256 import get_config as celebahq256


def get_config():
    config = celebahq256()
    config.paper = "lsun_cat"
    config.data.name = "tfds:lsun/cat"  # section 4
    config.train.steps = 1_800_000  # appendix B: 1.8 M
    return config
