"""The ablations of Nichol and Dhariwal 2021 (Improved DDPM): T, schedule and objective."""

from typing import Any

from diffusion.published.papers_protocols import fid, nll
from diffusion.published.table_types import Experiment, Row, Table, line

COLUMNS = ("bits/dim", "FID")

Changes = tuple[tuple[str, Any], ...]

FIXED: Changes = (("diffusion.variance", "fixed_large"), ("objective.name", "simple"))
HYBRID: Changes = ()
BOUND: Changes = (("objective.name", "vlb"), ("objective.timesteps", "loss_second_moment"))
"""Over the configs, which have L_hybrid."""

COSINE: Changes = ()
LINEAR_1000: Changes = (("diffusion.schedule", "linear"), ("diffusion.T", 1000))
LINEAR_4000: Changes = (("diffusion.schedule", "linear"), ("diffusion.beta_1", 2.5e-5), ("diffusion.beta_T", 0.005))
"""Both ends of beta times 1000 / T, as published."""

SETTINGS = (
    ("T = 1000, linear, L_simple", "linear_1000_simple", LINEAR_1000, FIXED),
    ("T = 4000, linear, L_simple", "linear_simple", LINEAR_4000, FIXED),
    ("T = 4000, linear, L_hybrid", "linear_hybrid", LINEAR_4000, HYBRID),
    ("T = 4000, cosine, L_simple", "cosine_simple", COSINE, FIXED),
    ("T = 4000, cosine, L_hybrid", "cosine_hybrid", COSINE, HYBRID),
    ("T = 4000, cosine, L_vlb", "cosine_vlb", COSINE, BOUND),
)
"""Label, name of the run, schedule, objective: the lines that both tables have."""

PROTOCOL = (
    "Single runs; averaged weights; samples made uint8 by truncation. L_vlb draws t by the second moment of its losses."
)


def cifar10() -> Table:
    """CIFAR-10, 500,000 steps."""
    printed = ("3.73 | 3.29", "3.37 | 2.90", "3.26 | 3.07", "3.26 | 3.05", "3.17 | 3.19", "2.94 | 11.47")

    def row(label: str, name: str, schedule: Changes, objective: Changes, text: str) -> Row:
        dropout = (("net.dropout", 0.1),) if schedule else ()
        run = Experiment(f"cifar10_{name}", "configs/cifar10_improved.py", schedule + dropout + objective)
        return line(label, COLUMNS, text, nll(run, images=1000), fid(run, truncated=True))

    return Table(
        "improved_cifar10",
        "Improved DDPM: CIFAR-10, 500,000 steps",
        COLUMNS,
        tuple(row(*setting, text) for setting, text in zip(SETTINGS, printed, strict=True)),
        f"{PROTOCOL} FID of 50,000 samples against the training set; bits/dim on the test set (the published script "
        "takes 1,000 images by default). Dropout 0.1 with linear, 0.3 with cosine.",
    )


def imagenet64() -> Table:
    """ImageNet 64x64, 200,000 and 1,500,000 steps."""
    printed = ("3.99 | 32.5", "3.77 | 31.3", "3.66 | 32.2", "3.68 | 27.0", "3.62 | 28.0", "3.57 | 56.7")

    def row(label: str, name: str, schedule: Changes, objective: Changes, text: str, steps: int = 200_000) -> Row:
        changes = (*schedule, *objective, ("train.steps", steps))
        run = Experiment(f"imagenet64_{name}", "configs/imagenet64.py", changes)
        score = fid(run, images=10_000, truncated=True)
        return line(f"{label}, {steps:,} steps", COLUMNS, text, nll(run, images=1000), score)

    # A long run passes through the short one's step, so one folder serves both.
    long = ((*SETTINGS[4], "3.57 | 19.2"), (*SETTINGS[5], "3.53 | 40.1"))
    return Table(
        "improved_imagenet64",
        "Improved DDPM: ImageNet 64x64",
        COLUMNS,
        (
            *(row(*setting, text) for setting, text in zip(SETTINGS, printed, strict=True)),
            *(row(*setting, steps=1_500_000) for setting in long),
        ),
        f"{PROTOCOL} FID of 10,000 samples against the training set, which is higher than that of 50,000; bits/dim on "
        "the validation set.",
    )
