"""MNIST, 28x28 grey digits, from the idx files at --config.data.dir.

Paper row: none; the method is the paper's (linear schedule, T = 1000, L_simple). The network has 2.8 M parameters.
It reads each square of 2x2 pixels as one pixel of 4 channels (`net.block_size`), so its levels are 14x14 and 7x7.
Score: 2.22 bits/dim, estimated on 256 held-out images; more in docs/results.md, its loss in docs/training_curves.md.
The variant edm was run for 800 steps of a smaller network (docs/ablations.md), not at full length.
Cost: 6,000 steps of 128 images at 0.14 TFLOP, 8e14 FLOP in all: minutes on a GPU, 50 minutes on 2 idle CPU cores.

    python scripts/train.py --config=configs/mnist.py --config.data.dir=PATH
    python scripts/train.py --config=configs/mnist.py:edm --config.data.dir=PATH      # Karras et al. 2022
"""

from configs.digits import edm
from diffusion.config import default_config


def get_config(variant: str = ""):
    config = default_config()
    config.data.name = "mnist"
    config.data.flip = False

    config.net.block_size = 2
    config.net.channels = 64
    config.net.multipliers = (1, 2)
    config.net.blocks = 1
    config.net.attention = (7,)
    config.net.dropout = 0.1

    config.optim.lr = 1e-3
    config.optim.warmup_steps = 500
    config.optim.ema_decay = 0.999

    config.train.steps = 6_000
    config.train.sample_every = 1_000
    config.train.eval_every = 500
    config.train.checkpoint_every = 500

    config.eval.n = 512
    if variant:
        if variant != "edm":
            raise ValueError(f"there is no variant {variant!r}; choose edm")
        edm(config)
    return config
