"""Schedule x objective x T of Improved DDPM: its tables on CIFAR-10 and ImageNet-64.

L_simple has a fixed variance (fixed_large), L_hybrid and L_vlb have learned_range. L_vlb draws t by the second moment
of its losses, as published; a last row draws t uniformly, for comparison. As published, both ends of beta of linear
schedules are multiplied by 1000 / T, and the network's times are scaled to 0..1000 for every T.

digits: T = 125 and 500 in place of 1000 and 4000, 600 steps of 128 images; 7 runs a seed, an estimated 22 minutes on
2 CPU cores.
cifar10: 500,000 steps a run, dropout 0.1 with linear and 0.3 with cosine. imagenet64: 200,000 steps a run.
mnist: T = 250 and 1000, 6,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/improved_ddpm_tables.py --size=digits
"""

from configs.ablations._base import base, betas, unread
from configs.cifar10_improved import get_config as cifar10
from configs.imagenet64 import get_config as imagenet64
from diffusion.config.ablation_grid import Grid, Row

PAPER = {
    "cifar10": (
        ("3.73", "3.29"),
        ("3.37", "2.90"),
        ("3.26", "3.07"),
        ("3.26", "3.05"),
        ("3.17", "3.19"),
        ("2.94", "11.47"),
    ),
    "imagenet64": (
        ("3.99", "32.5"),
        ("3.77", "31.3"),
        ("3.66", "32.2"),
        ("3.68", "27.0"),
        ("3.62", "28.0"),
        ("3.57", "56.7"),
    ),
}
"""(bits/dim, FID) of the first six rows."""

STEPS = {
    "digits": (125, 500),
    "mnist_small": (50, 200),
    "mnist": (250, 1000),
    "cifar10": (1000, 4000),
    "imagenet64": (1000, 4000),
}


def get_grid(size: str, overrides: dict) -> Grid:
    config = {"cifar10": cifar10, "imagenet64": imagenet64}.get(size, lambda: base(size))()
    config.paper = ""
    config.eval.cpu_flop = 0.0
    config.net.rescale_time = True
    # Every row states schedule, variance and objective in full.
    config.update_from_flattened_dict(unread("beta_1", "beta_T", "T", "schedule", "variance"))
    config.objective.name = "simple"
    if size == "imagenet64":
        config.train.steps = 200_000
    config.update_from_flattened_dict(overrides)
    few, many = STEPS[size]
    simple = {"objective.name": "simple", "diffusion.variance": "fixed_large"}
    hybrid = {"objective.name": "hybrid", "diffusion.variance": "learned_range"}
    uniform = {
        "objective.name": "vlb",
        "diffusion.variance": "learned_range",
        "optim.clip": config.optim.clip * many,  # its gradients are those of a sum over t
        "eval.noise_scale": True,
    }
    vlb = uniform | {"objective.timesteps": "loss_second_moment"}

    def linear(T: int) -> dict:
        return {"diffusion.schedule": "linear", **betas(T)} | ({"net.dropout": 0.1} if size == "cifar10" else {})

    cosine = {"diffusion.schedule": "cosine", "diffusion.T": many}
    shown = [{"bits/dim": nll, "FID": fid} for nll, fid in PAPER.get(size, ())] or [{}] * 6
    return Grid(
        "improved_ddpm_tables",
        f"Improved DDPM's ablation on {config.data.name}, T = {few} and {many}",
        config,
        (
            Row(f"T = {few}, linear, L_simple", linear(few) | simple, shown[0]),
            Row(f"T = {many}, linear, L_simple", linear(many) | simple, shown[1]),
            Row(f"T = {many}, linear, L_hybrid", linear(many) | hybrid, shown[2]),
            Row(f"T = {many}, cosine, L_simple", cosine | simple, shown[3]),
            Row(f"T = {many}, cosine, L_hybrid", cosine | hybrid, shown[4]),
            Row(f"T = {many}, cosine, L_vlb", cosine | vlb, shown[5]),
            Row(f"T = {many}, cosine, L_vlb, uniform t", cosine | uniform),
        ),
        "L_vlb draws t by the second moment of its losses, except in the row of uniform t."
        + (" Paper: Nichol and Dhariwal 2021, single runs." if size in PAPER else ""),
    )
