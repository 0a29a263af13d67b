"""CIFAR-10 in about an hour on one modest GPU, with a smaller network and a short run.

Paper row: Ho et al. 2020, table 1, "DDPM, L_simple", but with a network of half the width (9.0 M parameters instead of
35.7 M), a learning rate and an average for a short run, and no dropout, since 20,000 steps are only 51 epochs.
Score: not measured. It will be far from the paper's FID of 3.17: an independent run of the full network had 9.2
after 47,000 steps. The start-up report lists every deviation.
Cost: 20,000 steps of 128 images at 1.16 TFLOP, 2.3e16 FLOP in all: an hour at a sustained 6.4 TFLOP/s.

    python scripts/train.py --config=configs/cifar10_small.py
"""

from configs.cifar10 import get_config as cifar10


def get_config():
    config = cifar10()
    config.net.channels = 64
    config.net.dropout = 0.0

    config.optim.lr = 5e-4
    config.optim.warmup_steps = 500
    config.optim.ema_decay = 0.999
    config.optim.ema_warmup = True

    config.train.steps = 20_000
    config.train.sample_every = 2_000
    config.train.eval_every = 2_000
    config.train.checkpoint_every = 2_000

    config.eval.n = 512
    return config
