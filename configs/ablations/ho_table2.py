"""Table 2 of the DDPM paper: prediction x variance x objective.

Each of the six rows is a training run. As in the published code:
- L is the bound with a learned (diagonal) or fixed (isotropic: fixed_large) variance. The bound here is T times the
  published loss, so its gradients are clipped at T times the published norm, which is equivalent.
- The chain of a network that predicts mu is not clipped: sample.clip is off in those rows, for samples and bound.
The paper leaves two rows blank, since training was unstable and scores were out of range.

digits: T = 250 (betas times 4), 600 steps of 128 images; 6 runs a seed, each 3 minutes on 2 idle CPU cores.
cifar10: the paper's experiment, 800,000 steps a row. mnist: 6,000 steps a row.

    python scripts/ablate.py --grid=configs/ablations/ho_table2.py --size=digits
"""

from configs.ablations._base import base
from diffusion.config.ablation_grid import Grid, Row


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size)
    config.update_from_flattened_dict(overrides)
    mu = {"diffusion.parameterization": "mu", "sample.clip": False}
    bound = {"objective.name": "vlb", "optim.clip": float(config.diffusion.T)}
    learned = {"diffusion.variance": "learned"}
    return Grid(
        "ho_table2",
        f"DDPM table 2 on {config.data.name}",
        config,
        (
            Row("mu, L, learned diagonal", mu | bound | learned, {"IS": "7.28 ± 0.10", "FID": "23.69"}),
            Row("mu, L, fixed isotropic", mu | bound, {"IS": "8.06 ± 0.09", "FID": "13.22"}),
            Row("mu, MSE", mu | {"objective.name": "mu_mse"}, {"IS": "-", "FID": "-"}),
            Row("eps, L, learned diagonal", bound | learned, {"IS": "-", "FID": "-"}),
            Row("eps, L, fixed isotropic", bound, {"IS": "7.67 ± 0.13", "FID": "13.51", "bits/dim": "≤ 3.70"}),
            Row("eps, L_simple", {}, {"IS": "9.46 ± 0.11", "FID": "3.17", "bits/dim": "≤ 3.75"}),
        ),
        "Chains of rows that predict mu are not clipped, as published. Paper: CIFAR-10, 800,000 steps, tables 1 and 2 "
        "of Ho et al. 2020; - marks cells that it leaves blank as unstable.",
    )
