"""Samplers x number of steps, all on one trained network: table 1 of the DDIM paper and faster solvers.

eta = 0 is DDIM, eta = 1 is ancestral sampling with the fixed_small variance, and sigma-hat is ancestral sampling with
fixed_large. Only the last row is trained; the others sample its network and have no bound of their own.

digits: T = 1000, 1,600 steps of 128 images; 1 run and 31 sample sets of 256 a seed, an estimated 19 minutes on 2 CPU
cores.
mnist: 6,000 steps. cifar10: 800,000 training steps; sampling steps are spaced quadratically, as published.

    python scripts/ablate.py --grid=configs/ablations/samplers.py --size=digits
"""

from configs.ablations._base import base
from diffusion.config.ablation_grid import Grid, Row

FID = {
    0.0: ("13.36", "6.84", "4.67", "4.16", "4.04"),
    0.2: ("14.04", "7.11", "4.77", "4.25", "4.09"),
    0.5: ("16.66", "8.35", "5.25", "4.46", "4.29"),
    1.0: ("41.07", "18.36", "8.01", "5.78", "4.73"),
}
SIGMA_HAT = ("367.43", "133.37", "32.72", "9.99", "3.17")
STEPS: tuple[int, ...] = (10, 20, 50, 100, 1000)
"""The paper's, whose T is 1000; the last rows take all T steps of the base."""
SOLVERS = {"dpm_solver": "DPM-Solver++(2M)", "heun": "Heun (two evaluations a step)"}


def get_grid(size: str, overrides: dict) -> Grid:
    config = base(size, T=1000, steps=1600)
    config.update_from_flattened_dict(overrides)
    T = config.diffusion.T
    trained, counts = f"sigma-hat, {T} steps", [*(n for n in STEPS if n < T), T]

    def steps(n: int) -> dict:
        return {} if n == T else {"sample.grid": f"{'quad' if size == 'cifar10' else 'ddim'}{n}"}

    def row(name: str, n: int, changes: dict, fids: tuple[str, ...] = ()) -> Row:
        label, fid = f"{name}, {n} steps", dict(zip(STEPS, fids, strict=False)).get(n)
        paper = {"FID": fid} if fid and (n < T or STEPS[-1] == T) else {}
        if label == trained:
            return Row(label, changes, paper)
        return Row(label, changes | steps(n) | {"eval.final": False}, paper, run=trained)

    rows = [
        row(f"eta = {eta:g}", n, {"sample.sampler": "ddim", "sample.eta": eta}, fids)
        for eta, fids in FID.items()
        for n in counts
    ]
    rows += [row(name, n, {"sample.sampler": key}) for key, name in SOLVERS.items() for n in counts[:3]]
    rows += [row("sigma-hat", n, {}, SIGMA_HAT) for n in counts]
    return Grid(
        "samplers",
        f"Samplers on {config.data.name}, T = {T}",
        config,
        rows,
        "All rows sample one trained network. Paper: CIFAR-10, Song et al. 2021 (DDIM) table 1.",
    )
