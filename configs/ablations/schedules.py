"""Noise schedules under L_simple with the fixed_large variance.

jsd ends at alpha_bar_T = 0, where eps does not determine x_0. So that row predicts x_0; a second row of the linear
schedule also predicts x_0, for comparison.

digits: T = 250 (betas times 4), 600 steps of 128 images; 9 runs a seed, an estimated 23 minutes on 2 CPU cores.
cifar10: 800,000 steps a run. mnist: 6,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/schedules.py --size=digits
"""

from configs.ablations._base import base, unread
from diffusion.config.ablation_grid import Grid, Row


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size)
    config.update_from_flattened_dict(overrides)
    x_0 = {"diffusion.parameterization": "x_0"}
    neither = unread("beta_1", "beta_T")
    return Grid(
        "schedules",
        f"Noise schedules on {config.data.name}, T = {config.diffusion.T}",
        config,
        (
            Row("linear", {}, {"FID": "3.17", "bits/dim": "≤ 3.75"}),
            Row("quad", {"diffusion.schedule": "quad"}),
            Row("const", {"diffusion.schedule": "const"} | unread("beta_1")),
            Row("warmup10", {"diffusion.schedule": "warmup10"}),
            Row("warmup50", {"diffusion.schedule": "warmup50"}),
            Row("sigmoid", {"diffusion.schedule": "sigmoid"}),
            Row("cosine", {"diffusion.schedule": "cosine"} | neither),
            Row("linear, predicts x_0", x_0),
            Row("jsd, predicts x_0", x_0 | {"diffusion.schedule": "jsd"} | neither),
        ),
        "Paper: CIFAR-10, 800,000 steps, Ho et al. 2020 table 1; it chose the schedule among const, linear and quad "
        "without printing scores of the others.",
    )
