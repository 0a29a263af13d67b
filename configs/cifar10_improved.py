"""CIFAR-10 as in Improved DDPM: learned variances, the hybrid objective, the cosine schedule.

Paper row: Nichol and Dhariwal 2021, CIFAR-10 ablation, "4K, cosine, L_hybrid". 52.5 M parameters, 500,000 steps. The
published loader does not flip; there is no warm-up and no clipping of gradients.
Score: 3.17 bits/dim on the test set, FID 3.19 from 50,000 samples against the training set, single run. The final
bound is taken over 1,000 images, as by the published script: each takes 4,000 network evaluations.
Cost: 500,000 steps of 128 images at 6.5 TFLOP, 3.2e18 FLOP.

    python scripts/train.py --config=configs/cifar10_improved.py
"""

from diffusion.config.config import default_config


def get_config():
    config = default_config()
    config.paper = "cifar10_improved"
    config.data.flip = False

    config.diffusion.schedule = "cosine"
    config.diffusion.T = 4000
    config.diffusion.variance = "learned_range"
    config.objective.name = "hybrid"

    config.net.blocks = 3
    config.net.attention = (16, 8)
    config.net.heads = 4
    config.net.scale_shift = True
    config.net.convention = "improved"
    config.net.dropout = 0.3
    config.net.rescale_time = True

    config.optim.lr = 1e-4
    config.optim.warmup_steps = 0
    config.optim.clip = 0.0
    config.train.steps = 500_000

    config.eval.n = 1000
    return config
