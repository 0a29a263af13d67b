"""Table 1 of Song, Meng and Ermon 2021 (DDIM): FID against the number of steps and the noise of the chain."""

from diffusion.published.cell_metrics import fid
from diffusion.published.cells import Experiment, Measure, Row, Table, line
from diffusion.published.ddpm import CIFAR10

STEPS = (10, 20, 50, 100, 1000)
COLUMNS = tuple(f"S = {steps}" for steps in STEPS)

ETAS = (
    (0.0, "13.36 | 6.84 | 4.67 | 4.16 | 4.04"),
    (0.2, "14.04 | 7.11 | 4.77 | 4.25 | 4.09"),
    (0.5, "16.66 | 8.35 | 5.25 | 4.46 | 4.29"),
    (1.0, "41.07 | 18.36 | 8.01 | 5.78 | 4.73"),
)
SIGMA_HAT = "367.43 | 133.37 | 32.72 | 9.99 | 3.17"

CELEBA = Experiment("celeba64", "configs/celeba64.py")
CELEBA_ETAS = (
    (0.0, "17.33 | 13.73 | 9.17 | 6.53 | 3.51"),
    (0.2, "17.66 | 14.11 | 9.51 | 6.79 | 3.64"),
    (0.5, "19.86 | 16.06 | 11.01 | 8.09 | 4.28"),
    (1.0, "33.12 | 26.03 | 18.48 | 13.93 | 5.98"),
)
CELEBA_SIGMA_HAT = "299.71 | 183.83 | 71.71 | 45.20 | 3.26"

PROTOCOL = (
    "eta = 1 is ancestral sampling with fixed_small, sigma-hat with fixed_large. The published code clips x_0_hat in "
    "the last row alone."
)


def rows(experiment: Experiment, spacing: str, etas: tuple[tuple[float, str], ...], sigma_hat: str) -> tuple[Row, ...]:
    """A row for each eta and one for sigma-hat; `spacing` names the grids of fewer steps than all."""
    grids = [*(f"{spacing}{steps}" for steps in STEPS[:-1]), "full"]

    def ddim(eta: float) -> list[Measure]:
        return [fid(experiment, chain={"sampler": "ddim", "grid": grid, "eta": eta}, clip=False) for grid in grids]

    few = [fid(experiment, chain={"sampler": "ancestral", "grid": grid}) for grid in grids[:-1]]
    return (
        *(line(f"eta = {eta:g}", COLUMNS, printed, *ddim(eta)) for eta, printed in etas),
        line("sigma-hat", COLUMNS, sigma_hat, *few, fid(experiment)),
    )


def cifar10() -> Table:
    """CIFAR-10, on the network of DDPM."""
    return Table(
        "ddim_table1",
        "DDIM table 1: FID on CIFAR-10",
        COLUMNS,
        rows(CIFAR10, "quad", ETAS, SIGMA_HAT),
        "The network is DDPM's released one; 50,000 samples against the training set, steps spaced quadratically. "
        f"{PROTOCOL}",
    )


def celeba64() -> Table:
    """CelebA 64x64, on a network of the authors."""
    return Table(
        "ddim_table1_celeba64",
        "DDIM table 1: FID on CelebA 64x64",
        COLUMNS,
        rows(CELEBA, "ddim", CELEBA_ETAS, CELEBA_SIGMA_HAT),
        f"50,000 samples against the training set, steps spaced evenly. {PROTOCOL}",
    )
