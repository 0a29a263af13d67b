"""MNIST, 28x28 grey digits, from the idx files at --config.data.dir.

Paper row: none; the method is the paper's (linear schedule, T = 1000, L_simple), the network has 1.6 M parameters and
levels of 28, 14 and 7 pixels.
Score: not measured.
Cost: 10,000 steps of 128 images at 0.23 TFLOP, 2.3e15 FLOP in all: minutes on a GPU, hours on a laptop CPU.

    python scripts/train.py --config=configs/mnist.py --config.data.dir=PATH
    python scripts/train.py --config=configs/mnist.py:edm --config.data.dir=PATH      # Karras et al. 2022
"""

from configs.digits import edm
from diffusion.config import default_config


def get_config(variant: str = ""):
    config = default_config()
    config.data.name = "mnist"
    config.data.flip = False

    config.net.channels = 32
    config.net.multipliers = (1, 2, 2)
    config.net.blocks = 2
    config.net.attention = (14,)
    config.net.dropout = 0.1

    config.optim.lr = 1e-3
    config.optim.warmup_steps = 500
    config.optim.ema_decay = 0.999

    config.train.steps = 10_000
    config.train.sample_every = 1_000
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 1_000

    config.eval.n = 512
    if variant:
        if variant != "edm":
            raise ValueError(f"there is no variant {variant!r}; choose edm")
        edm(config)
    return config
