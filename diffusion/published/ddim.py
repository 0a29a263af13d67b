"""Table 1 of Song, Meng and Ermon 2021 (DDIM): FID against the number of steps and the noise of the chain."""

from diffusion.published.cell_metrics import fid
from diffusion.published.cells import Measure, Table, line
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


def grid(steps: int) -> str:
    """The steps visited, for CIFAR-10: spaced quadratically unless all are."""
    return "full" if steps == STEPS[-1] else f"quad{steps}"


def cifar10() -> Table:
    """CIFAR-10, on the network of DDPM."""

    def ddim(eta: float) -> list[Measure]:
        return [fid(CIFAR10, chain={"sampler": "ddim", "grid": grid(n), "eta": eta}, clip=False) for n in STEPS]

    few = [fid(CIFAR10, chain={"sampler": "ancestral", "grid": grid(n)}) for n in STEPS[:-1]]
    return Table(
        "ddim_table1",
        "DDIM table 1: FID on CIFAR-10",
        COLUMNS,
        (
            *(line(f"eta = {eta:g}", COLUMNS, printed, *ddim(eta)) for eta, printed in ETAS),
            line("sigma-hat", COLUMNS, SIGMA_HAT, *few, fid(CIFAR10)),
        ),
        "The network is DDPM's released one; 50,000 samples against the training set, steps spaced quadratically. "
        "eta = 1 is ancestral sampling with fixed_small, sigma-hat with fixed_large. The published code clips x_0_hat "
        "in the last row alone.",
    )


def celeba64() -> Table:
    """CelebA 64x64, on a network that was not released with DDPM: for reference."""
    printed = (
        ("eta = 0", "17.33 | 13.73 | 9.17 | 6.53 | 3.51"),
        ("eta = 0.2", "17.66 | 14.11 | 9.51 | 6.79 | 3.64"),
        ("eta = 0.5", "19.86 | 16.06 | 11.01 | 8.09 | 4.28"),
        ("eta = 1", "33.12 | 26.03 | 18.48 | 13.93 | 5.98"),
        ("sigma-hat", "299.71 | 183.83 | 71.71 | 45.20 | 3.26"),
    )
    return Table(
        "ddim_table1_celeba64",
        "DDIM table 1: FID on CelebA 64x64",
        COLUMNS,
        tuple(line(label, COLUMNS, text) for label, text in printed),
        "For reference: the authors' own network, for which this project has no config.",
    )
