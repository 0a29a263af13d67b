"""EDM's training choices, added to DDPM one by one, with four samplers at their usual number of steps.

Each row with + adds one choice to the row with + above it, as in table 2 of Karras et al. 2022: hyper-parameters;
preconditioning with its noise levels, time and input scale; the log-normal density of noise levels with its weight;
augmentation; an average with a power-function profile (Karras et al. 2024). One more row has plain DDPM with the same
density of signal-to-noise ratios, and a last row half of the training steps. Every row is trained and sampled by
ancestral sampling over all steps; three of them also by DDIM in 50, DPM-Solver++(2M) in 20 and EDM's Heun in 18 steps.

The published batch of 512, warm-up and length of training are left out, so that all rows see the same images. The
average of "+ power EMA" has the decay (1 + n) / (10 + n) after n updates. In the limit this is the power-function
profile with gamma = 8, of width 0.09. Other widths would need optim.power_ema and scripts/ema.py.

digits: T = 100, 400 steps of 64 images; 8 runs and 9 more evaluations a seed.
mnist_small: T = 100, 800 steps of 64 images, the network of configs/mnist.py with half of its channels.
mnist: 6,000 steps a run. cifar10: 800,000 steps a run.

    python scripts/ablate.py --grid=configs/ablations/edm.py --size=digits --seeds=0,1,2
"""

from configs.ablations._base import base, unread
from configs.cifar10_edm import get_config as cifar10_edm
from configs.digits import edm
from diffusion.config import default_config
from diffusion.config.ablation_grid import Grid, Row
from diffusion.config.config_dict import flatten

SAMPLERS = {
    "DDIM, 50 steps": {"sample.sampler": "ddim", "sample.grid": "50"},
    "DPM-Solver++, 20 steps": {"sample.sampler": "dpm_solver", "sample.grid": "20"},
    "Heun, 18 steps": {"sample.sampler": "edm", "sample.grid": "karras18"},
}
SMALL = {"digits": (100, 400), "mnist_small": (100, 800)}
"""T and training steps of the sizes for CPUs."""
DENSITY = ("objective.timesteps", "objective.P_mean", "objective.P_std")
HYPER = ("optim.lr", "optim.clip", "net.dropout")
SAMPLED = ("DDPM", "+ preconditioning", "+ log-normal t")
"""The rows whose networks are sampled by all four samplers."""


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size, *SMALL.get(size, (1000,)))
    if size in SMALL:
        config.train.batch_size = 64
        config.optim.ema_decay = 0.98  # an average over 50 steps
    if size == "mnist_small":
        config.net.block_size = 2  # as in configs/mnist.py; the network of base() draws no digits so soon
        config.net.channels = 32
        config.net.multipliers = (1, 2)
        config.sample.n = config.sample.batch_size = 256
    config.update_from_flattened_dict(overrides)
    published, recipe = flatten(cifar10_edm()), default_config()
    edm(recipe)
    stated = {key: value for key, value in flatten(recipe).items() if value != flatten(default_config())[key]}
    loss = {key: value for key, value in stated.items() if key.startswith("objective.")}
    shape = {key: value for key, value in stated.items() if key.split(".")[0] in ("diffusion", "net")}
    density = {key: flatten(recipe)[key] for key in DENSITY}
    hyper = {key: published[key] for key in HYPER}
    preconditioned = hyper | shape | {"objective.name": "edm", "sample.clip": False} | unread("beta_1", "beta_T")
    lognormal = preconditioned | density | loss
    augmented = lognormal | {"data.augment": published["data.augment"]}
    trained = {
        "DDPM": {},
        "DDPM, log-normal t": density,
        "+ hyper-parameters": hyper,
        "+ preconditioning": preconditioned,
        "+ log-normal t": lognormal,
        "+ augmentation": augmented,
        "+ power EMA": augmented | {"optim.ema_warmup": True, "optim.ema_decay": 0.999999},
        "+ log-normal t, half of the steps": lognormal | {"train.steps": config.train.steps // 2},
    }
    rows = []
    for label, changes in trained.items():
        rows.append(Row(label, changes))
        rows += [
            Row(f"{label}; {name}", changes | sampler | {"eval.final": False}, run=label)
            for name, sampler in SAMPLERS.items()
            if label in SAMPLED
        ]
    return Grid(
        "edm",
        f"EDM's training choices on {config.data.name}, T = {config.diffusion.T}",
        config,
        rows,
        "Rows without the name of a sampler use ancestral sampling over all steps; the others sample the same networks "
        "and have no bound of their own.",
    )
