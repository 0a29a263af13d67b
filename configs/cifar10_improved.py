"""CIFAR-10 as in Improved DDPM: the differences from configs/cifar10.py, with their sources.

Paper row: Nichol and Dhariwal 2021, CIFAR-10 ablation, "4K, cosine, L_hybrid". 52.5 M parameters, 500,000 steps.
Score: 3.17 bits/dim on the test set, FID 3.19 from 50,000 samples against the training set, single run. The final
bound uses 1,000 images, as the published script does, since each image takes 4,000 network evaluations.
Cost: 500,000 steps of 128 images at 6.0 TFLOP, 3.0e18 FLOP.

    python scripts/train.py --config=configs/cifar10_improved.py
"""

from configs.cifar10 import get_config as cifar10


def get_config():
    config = cifar10()
    config.paper = "cifar10_improved"
    config.data.flip = False  # code: its loader does not flip

    config.diffusion.schedule = "cosine"  # section 3.2, eq. 17
    config.diffusion.T = 4000  # section 3
    config.diffusion.variance = "learned_range"  # section 3.1, eq. 15
    config.objective.name = "hybrid"  # section 3.1, eq. 16
    config.objective.vlb_weight = 0.001  # section 3.1: lambda

    config.net.blocks = 3  # appendix A
    config.net.attention = (16, 8)  # appendix A
    config.net.heads = 4  # appendix A
    config.net.scale_shift = True  # appendix A: GroupNorm(h) (w + 1) + b
    config.net.convention = "improved"  # code: epsilon of norms, order of sines and cosines, padding
    config.net.dropout = 0.3  # appendix A: 0.3 with the cosine schedule, 0.1 with the linear one
    config.net.rescale_time = True  # code: times of 0..1000 whatever T is

    config.optim.lr = 1e-4  # appendix A
    config.optim.warmup_steps = 0  # code
    config.optim.clip = 0.0  # code
    config.train.steps = 500_000  # appendix A

    config.eval.n = 1000  # code
    return config
