"""Weights of the squared error, for networks that predict eps, x_0 and v.

simple is the unweighted error of the network's output. min_snr, p2 and L, the bound, weight the error of x_0, so they
have the same meaning for all three predictions. All rows use the variance fixed_large.

digits: T = 250 (betas times 4), 600 steps of 128 images; 8 runs a seed, an estimated 20 minutes on 2 CPU cores.
cifar10: 800,000 steps a run. mnist: 6,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/loss_weights.py --size=digits
"""

from configs.ablations._base import base
from diffusion.config.ablation_grid import Grid, Row


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size)
    config.update_from_flattened_dict(overrides)
    eps, x_0, v = ({"diffusion.parameterization": name} for name in ("eps", "x_0", "v"))
    p2, min_snr = ({"objective.name": name} for name in ("p2", "min_snr"))
    bound = {"objective.name": "vlb", "optim.clip": float(config.diffusion.T)}
    return Grid(
        "loss_weights",
        f"Loss weights on {config.data.name}, T = {config.diffusion.T}",
        config,
        (
            Row("eps, simple", eps, {"FID": "3.17", "bits/dim": "≤ 3.75"}),
            Row("eps, p2", eps | p2),
            Row("eps, min_snr", eps | min_snr),
            Row("eps, L", eps | bound, {"FID": "13.51", "bits/dim": "≤ 3.70"}),
            Row("x_0, simple", x_0),
            Row("x_0, min_snr", x_0 | min_snr),
            Row("v, simple", v),
            Row("v, min_snr", v | min_snr),
        ),
        "Paper: CIFAR-10, 800,000 steps, Ho et al. 2020 table 1.",
    )
