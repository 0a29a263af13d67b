"""LSUN Church (outdoor) at 256x256 as in the DDPM paper.

Paper row: Ho et al. 2020, table 3, Church. 113.7 M parameters, fixed-small variance, no dropout.
Score: FID 7.89 from 50,000 samples (StyleGAN2's code). The paper states 1.2 M steps; the checkpoint that its authors
released had taken 4.4 M.
Cost: 1,200,000 steps of 64 images at 95 TFLOP: 150 hours on a TPU v3-8 (2.2 steps/s) as published.

    python scripts/train.py --config=configs/lsun_church.py
    python scripts/train.py --config=configs/lsun_church.py --config.data.name=folder:PATH
"""

from configs.celebahq256 import get_config as celebahq256


def get_config():
    config = celebahq256()
    config.paper = "lsun_church"
    config.data.name = "tfds:lsun/church_outdoor"  # section 4
    config.train.steps = 1_200_000  # appendix B: 1.2 M
    return config
