"""What each of EDM's training choices is worth for plain DDPM, under four samplers at their usual number of steps.

Rows add up, as in table 2 of Karras et al. 2022: the preconditioning with its levels, time and input scale, then the
log-normal density with its weight; and the density alone on plain DDPM, by its signal-to-noise ratio. Each is trained
once and sampled by ancestral sampling over all steps, DDIM in 50, DPM-Solver++(2M) in 20 and EDM's Heun in 18.

digits: T = 1000, 600 steps of 128 images; 4 runs and 16 evaluations a seed.
mnist_small: T = 100, 300 steps of 64 images. mnist: 10,000 steps a run. cifar10: 800,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/edm.py --size=digits --seeds=0,1,2
"""

from configs.ablations._base import base, unread
from configs.digits import edm
from diffusion.config import default_config
from diffusion.config.ablation import Grid, Row
from diffusion.config.config_values import flatten

SAMPLERS = {
    "DDIM, 50 steps": {"sample.sampler": "ddim", "sample.grid": "50"},
    "DPM-Solver++, 20 steps": {"sample.sampler": "dpm_solver", "sample.grid": "20"},
    "Heun, 18 steps": {"sample.sampler": "edm", "sample.grid": "karras18"},
}
DENSITY = ("objective.timesteps", "objective.P_mean", "objective.P_std")


def get_grid(size: str) -> Grid:
    config = base(size, T=100, steps=300) if size == "mnist_small" else base(size, T=1000)
    recipe = default_config()
    edm(recipe)
    stated = {key: value for key, value in flatten(recipe).items() if value != flatten(default_config())[key]}
    loss = {key: value for key, value in stated.items() if key.startswith("objective.")}
    shape = {key: value for key, value in stated.items() if key.split(".")[0] in ("diffusion", "net")}
    density = {key: flatten(recipe)[key] for key in DENSITY}
    preconditioned = shape | {"objective.name": "edm", "sample.clip": False} | unread("beta_1", "beta_T")
    trained = {
        "DDPM": {},
        "DDPM, log-normal t": density,
        "+ preconditioning": preconditioned,
        "+ log-normal t": preconditioned | density | loss,
    }
    rows = []
    for label, changes in trained.items():
        rows.append(Row(label, changes))
        rows += [
            Row(f"{label}; {name}", changes | sampler | {"eval.final": False}, run=label)
            for name, sampler in SAMPLERS.items()
        ]
    return Grid(
        "edm",
        f"EDM's training choices on {config.data.name}, T = {config.diffusion.T}",
        config,
        rows,
        "Rows without a sampler's name are sampled by ancestral sampling over all steps; the others sample the same "
        "networks and have no bound of their own.",
    )
