"""CIFAR-10 overnight on a laptop: a small network, chosen by the pilots of docs/training_curves.md.

Paper row: none; the paper's network has 20 times the parameters and is trained on 100 million images. This network
receives the class of an image, so that its samples can be guided. It predicts v: under the cosine schedule a short
training on eps saturates the colours of samples by few steps.
Score: 3.91 bits/dim, estimated on 256 held-out images.
Cost: 16,000 steps of 64 images (20 epochs), 2.3e15 FLOP: 3 to 6 hours on 2 idle CPU cores (102 and 52 images/s).

    python scripts/train.py --config=configs/cifar10_cpu.py --config.data.dir=PATH
    python scripts/sample.py --workdir=runs/cifar10_cpu --guidance=1 --sampler=ddim --steps=100
"""

from diffusion.config import default_config


def get_config():
    config = default_config()
    config.data.name = "cifar10"
    config.data.flip = True

    config.diffusion.schedule = "cosine"
    config.diffusion.parameterization = "v"

    config.net.channels = 40
    config.net.multipliers = (1, 2, 2)
    config.net.blocks = 1
    config.net.attention = (8,)
    config.net.class_conditional = True
    config.net.label_dropout = 0.1

    config.optim.lr = 1e-3
    config.optim.warmup_steps = 250
    config.optim.ema_decay = 0.999
    config.optim.ema_warmup = True

    config.train.batch_size = 64
    config.train.steps = 16_000
    config.train.sample_every = 1_000
    config.train.eval_every = 500
    config.train.checkpoint_every = 250

    config.sample.n = 100
    config.eval.n = 512
    return config
