"""The variance of the reverse steps, on the whole chain and on a tenth of its steps.

Both fixed variances share one network, trained with L_simple; learned ones are trained with L_hybrid. A row of T/10
evaluates the network of the whole chain, its samples and its bound, on T / 10 evenly spaced steps; learned_range then
interpolates between the variances of these steps.

digits: T = 500 (betas times 2), 800 steps of 128 images; 3 runs and 5 more evaluations a seed, 6 minutes a run on
2 idle CPU cores.
cifar10: 800,000 steps a run. mnist: 6,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/variances.py --size=digits
"""

from configs.ablations._base import base
from diffusion.config.ablation_grid import Grid, Row


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size, T=500, steps=800)
    config.update_from_flattened_dict(overrides)
    tenth = str(config.diffusion.T // 10)
    respaced = {"sample.grid": tenth}
    small = {"diffusion.variance": "fixed_small"}
    learned = {"diffusion.variance": "learned", "objective.name": "hybrid"}
    ranged = {"diffusion.variance": "learned_range", "objective.name": "hybrid"}
    return Grid(
        "variances",
        f"Variances of the reverse steps on {config.data.name}, T = {config.diffusion.T} and {tenth}",
        config,
        (
            Row("fixed_large", {}, {"FID": "3.17", "bits/dim": "≤ 3.75"}),
            Row("fixed_small", small, {"FID": "4.73"}, run="fixed_large"),
            Row("learned", learned),
            Row("learned_range", ranged),
            Row("fixed_large, T/10", respaced, {"FID": "9.99"}, run="fixed_large"),
            Row("fixed_small, T/10", small | respaced, {"FID": "5.78"}, run="fixed_large"),
            Row("learned, T/10", learned | respaced, run="learned"),
            Row("learned_range, T/10", ranged | respaced, run="learned_range"),
        ),
        "The rows of T/10 evaluate the networks of the whole chains; both fixed variances share one network. Paper: "
        "CIFAR-10, Ho et al. 2020 table 1 and Song et al. 2021 (DDIM) table 1, whose 100 steps are spaced "
        "quadratically; no table has the learned variances at T = 1000.",
    )
