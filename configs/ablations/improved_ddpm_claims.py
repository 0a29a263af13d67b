"""Three claims of Improved DDPM, each from runs with the same budget and seeds.

1. learned_range with L_hybrid reaches fewer bits/dim than fixed variances, and loses less when the chain is respaced
   to a tenth of its steps (the first six rows; both fixed variances share one network).
2. The cosine schedule is better than the linear one.
3. L_vlb has less gradient noise if t is drawn by the second moment of its losses instead of uniformly. The gradient
   noise scale (McCandlish et al. 2018) is measured for both and for L_hybrid.

digits: T = 250 (betas times 4), 600 steps of 128 images; 6 runs and 5 more evaluations a seed.
mnist_small: T = 100, 300 steps of 64 images. mnist: 6,000 steps a run. cifar10: the paper's network, 800,000 steps a
run.

    python scripts/ablate.py --grid=configs/ablations/improved_ddpm_claims.py --size=digits
    python scripts/ablate.py --grid=configs/ablations/improved_ddpm_claims.py --size=mnist_small --config.data.dir=PATH
"""

from configs.ablations._base import base, unread
from diffusion.config.ablation_grid import Grid, Row


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size, T=100, steps=300) if size == "mnist_small" else base(size)
    config.net.rescale_time = True
    config.update_from_flattened_dict(overrides)
    T = config.diffusion.T
    respaced = {"sample.grid": str(T // 10)}
    small = {"diffusion.variance": "fixed_small"}
    cosine = {"diffusion.schedule": "cosine"} | unread("beta_1", "beta_T")
    ranged = {"diffusion.variance": "learned_range"}
    noise = {"eval.noise_scale": True}
    hybrid = ranged | noise | {"objective.name": "hybrid"}
    # The gradients of L_vlb are those of a sum over t: the norm that they are clipped to grows with T.
    vlb = ranged | noise | {"objective.name": "vlb", "optim.clip": config.optim.clip * T}
    resampled = {"objective.timesteps": "loss_second_moment"}
    fixed, learned = "linear, L_simple, fixed_large", "linear, L_hybrid, learned_range"
    best = "cosine, L_hybrid, learned_range"
    return Grid(
        "improved_ddpm_claims",
        f"Claims of Improved DDPM on {config.data.name}, T = {T}",
        config,
        (
            Row(fixed, {}),
            Row("linear, L_simple, fixed_small", small, run=fixed),
            Row(learned, hybrid),
            Row(f"{fixed}, T/10", respaced, run=fixed),
            Row("linear, L_simple, fixed_small, T/10", small | respaced, run=fixed),
            Row(f"{learned}, T/10", hybrid | respaced, run=learned),
            Row("cosine, L_simple, fixed_large", cosine),
            Row(best, cosine | hybrid),
            Row(f"{best}, T/10", cosine | hybrid | respaced, run=best),
            Row("cosine, L_vlb, uniform t", cosine | vlb),
            Row("cosine, L_vlb, resampled t", cosine | vlb | resampled),
        ),
        "Rows of T/10 evaluate the network of the whole chain. The noise scale is that of the gradient of the training "
        "loss, in images.",
    )
