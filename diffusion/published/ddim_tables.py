"""Table 1 of Song, Meng and Ermon 2021 (DDIM): FID against the number of steps and the noise of the chain."""

from diffusion.published.ddpm_tables import CIFAR10
from diffusion.published.papers_protocols import fid
from diffusion.published.table_types import Experiment, Table, line

CELEBA64 = Experiment("celeba64", "configs/celeba64.py")

STEPS = (10, 20, 50, 100, 1000)
COLUMNS = tuple(f"S = {steps}" for steps in STEPS)
ETAS = (0.0, 0.2, 0.5, 1.0)


def table(
    name: str, title: str, experiment: Experiment, spacing: str, printed: tuple[str, ...], protocol: str
) -> Table:
    """A row for each eta, and one for sigma-hat; `spacing`: the grid of fewer than all steps, "quad" or "ddim"."""
    grids = [*(f"{spacing}{steps}" for steps in STEPS[:-1]), "full"]
    rows = []
    for eta, text in zip(ETAS, printed[:-1], strict=True):
        chains = [{"sampler": "ddim", "grid": grid, "eta": eta} for grid in grids]
        rows.append(line(f"eta = {eta:g}", COLUMNS, text, *(fid(experiment, chain=c, clip=False) for c in chains)))
    chains = [{"sampler": "ancestral", "grid": grid} for grid in grids[:-1]]
    measures = [*(fid(experiment, chain=chain) for chain in chains), fid(experiment)]
    return Table(name, title, COLUMNS, (*rows, line("sigma-hat", COLUMNS, printed[-1], *measures)), protocol)


PROTOCOL = (
    "eta = 1 is ancestral sampling with fixed_small, sigma-hat with fixed_large. The published code clips x_0_hat in "
    "the last row alone."
)


def cifar10() -> Table:
    """CIFAR-10, with the network of DDPM."""
    return table(
        "ddim_table1",
        "DDIM table 1: FID on CIFAR-10",
        CIFAR10,
        "quad",
        (
            "13.36 | 6.84 | 4.67 | 4.16 | 4.04",
            "14.04 | 7.11 | 4.77 | 4.25 | 4.09",
            "16.66 | 8.35 | 5.25 | 4.46 | 4.29",
            "41.07 | 18.36 | 8.01 | 5.78 | 4.73",
            "367.43 | 133.37 | 32.72 | 9.99 | 3.17",
        ),
        "The network is DDPM's released one; 50,000 samples against the training set, steps spaced quadratically. "
        + PROTOCOL,
    )


def celeba64() -> Table:
    """CelebA 64x64, with a network that the authors of DDIM trained."""
    return table(
        "ddim_table1_celeba64",
        "DDIM table 1: FID on CelebA 64x64",
        CELEBA64,
        "ddim",
        (
            "17.33 | 13.73 | 9.17 | 6.53 | 3.51",
            "17.66 | 14.11 | 9.51 | 6.79 | 3.64",
            "19.86 | 16.06 | 11.01 | 8.09 | 4.28",
            "33.12 | 26.03 | 18.48 | 13.93 | 5.98",
            "299.71 | 183.83 | 71.71 | 45.20 | 3.26",
        ),
        "The network is the authors' own; 50,000 samples against the training set, steps spaced evenly. " + PROTOCOL,
    )
