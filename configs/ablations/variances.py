"""The variance of the reverse steps, on the whole chain and on a tenth of its steps.

Fixed variances are trained by L_simple and share one network; learned ones are trained by L_hybrid. A respaced row
evaluates the network of its whole chain, samples and bound, on T / 10 evenly spaced steps; learned variances
interpolate on the respaced process.

digits: T = 500 (betas times 2), 800 steps of 128 images; 3 runs and 8 evaluations a seed, a run 6 minutes on 2 idle
CPU cores.
cifar10: 800,000 steps a run. mnist: 6,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/variances.py --size=digits
"""

from configs.ablations._base import base
from diffusion.config.ablation import Grid, Row


def get_grid(size: str) -> Grid:
    config = base(size, T=500, steps=800)
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
