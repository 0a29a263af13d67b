"""The loss that training should have by step: a recorded curve, its band, and a watch over a run of the same config.

The curves stand beside the shipped weights, pretrained/<name>/curve.csv; docs/training_curves.md shows them.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.config.config_dict import Config, config_hash, flatten
from diffusion.config.config_files import ROOT
from diffusion.workdir.run_config import read_run

HOME = ROOT / "pretrained"
NAME = "curve.csv"
LOSS = "mse"
"""The squared error of the network's output, as metrics files name it after "train/": L_simple for eps."""
SHOWN = (LOSS, *(f"mse_t_quartile_{i}" for i in (1, 2, 3, 4)))
BITS = "bits_per_dim"
NEIGHBOURS = 2
"""Windows on each side that a window is smoothed over."""
WIDTH = 4.0
"""Half the width of the band in standard deviations of single windows of all seeds about the curve."""
LEAST = 0.01
"""The least such deviation, relative."""
PATIENCE = 2
"""Windows in a row outside of the band before it is reported."""

Lines = Sequence[Mapping[str, Any]]
"""Those of a metrics file."""


class Curve(NamedTuple):
    """The expected loss of windows of training steps; window k is (steps[k-1], steps[k]], the first begins at 0."""

    name: str
    steps: np.ndarray
    low: np.ndarray
    high: np.ndarray


def recorded(config: Config) -> Curve | None:
    """The curve of training with this config, whatever its seed; None where there is none."""
    for path in sorted(HOME.glob(f"*/{NAME}")):
        if same_but_seed(read_run(path.parent).config, config):
            return curve(path.parent.name, read(path))
    return None


def same_but_seed(a: Config, b: Config) -> bool:
    """Whether two configs compute the same from two seeds."""
    return config_hash({**flatten(a), "seed": 0}) == config_hash({**flatten(b), "seed": 0})


def rows(runs: Sequence[Lines]) -> list[dict[str, Any]]:
    """The table of runs of one config with several seeds: a row for each line of the first run with a loss.

    Columns: step; the loss, overall and by quartile of t, and bits/dim where it was estimated, of the first run; low
    and high. These are exp(m +- WIDTH s): m is the mean of the logarithms of all runs' losses there, s the sample
    standard deviation from it in the five nearest windows. Where there is one run, m is the line through the logarithms
    of its losses and steps in these windows. Raises ValueError where the first run has fewer than five windows.
    """
    main = {line["step"]: line for line in runs[0] if line.get(f"train/{LOSS}")}
    if len(main) <= 2 * NEIGHBOURS:
        least = 2 * NEIGHBOURS + 1
        raise ValueError(f"a curve needs {least} logged losses, and the run has {len(main)}: give a longer run")
    steps = np.array(list(main))
    bits = {line["step"]: line[f"eval/{BITS}"] for line in runs[0] if line.get(f"eval/{BITS}")}
    others = [{line["step"]: line[f"train/{LOSS}"] for line in run if line.get(f"train/{LOSS}")} for run in runs]
    line = _smooth(np.log(steps), np.log([main[step][f"train/{LOSS}"] for step in steps]))
    middle, distances = [], []
    for k, step in enumerate(steps.tolist()):
        values = np.log([run[step] for run in others if step in run])
        n = len(values)
        middle.append(float(values.mean() if n > 1 else line[k]))
        distances.append((values - middle[k]) * math.sqrt(n / max(n - 1, 1)))
    table = []
    for k, step in enumerate(steps.tolist()):
        near = np.concatenate(distances[max(k - NEIGHBOURS, 0) : k + NEIGHBOURS + 1])
        half = WIDTH * max(LEAST, float(np.sqrt(np.mean(near**2))))
        losses = {name: main[step].get(f"train/{name}") for name in SHOWN}
        band = {"low": math.exp(middle[k] - half), "high": math.exp(middle[k] + half)}
        table.append({"step": step, **losses, BITS: bits.get(step), **band})
    return table


def write(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """The table as CSV with five digits; empty where there is no value."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table[0])
        for row in table:
            writer.writerow([f"{v:.5g}" if isinstance(v, float) else v for v in row.values()])


def read(path: Path) -> list[dict[str, float]]:
    """The table of a CSV file; nan where there is no value."""
    with path.open(newline="") as file:
        return [{name: float(v or "nan") for name, v in row.items()} for row in csv.DictReader(file)]


def curve(name: str, table: Sequence[Mapping[str, float]]) -> Curve:
    """The band of a table."""
    return Curve(name, *(np.array([row[column] for row in table]) for column in ("step", "low", "high")))


class Watch:
    """Compares the logged losses of a run with a curve and reports once when they leave its band, or come back.

    At the end of a window of the curve, the mean of the run's losses that were logged in it is compared. Steps after
    the last window are not compared; without a curve none is.
    """

    def __init__(self, curve: Curve | None, report: Callable[[str], None]):
        self._curve, self._report = curve or Curve("", *np.zeros((3, 0))), report
        self._window, self._losses = 0, []
        self._outside, self._left = 0, False

    def __call__(self, step: int, loss: float) -> None:
        """Takes the mean loss of the steps since the last call."""
        window = int(np.searchsorted(self._curve.steps, step))
        if window != self._window:
            self._window, self._losses = window, []
        self._losses.append(loss)
        if window == len(self._curve.steps) or step != self._curve.steps[window]:
            return
        mean, low, high = float(np.mean(self._losses)), self._curve.low[window], self._curve.high[window]
        self._outside = 0 if low <= mean <= high else self._outside + 1
        where = f"of {low:.3g} to {high:.3g} that pretrained/{self._curve.name} had"
        if self._outside == PATIENCE and not self._left:
            self._left = True
            side = "above" if mean > high else "below"
            self._report(
                f"WARNING     loss {mean:.3g} at step {step} is {side} the band {where} with this config; "
                "docs/training_curves.md shows what that may mean"
            )
        elif self._left and not self._outside:
            self._left = False
            self._report(f"loss        {mean:.3g} at step {step} is back in the band {where}")


def _smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """At each x, the least-squares line through it and its neighbours, those at the ends through the nearest five."""
    starts = np.clip(np.arange(len(x)) - NEIGHBOURS, 0, len(x) - 2 * NEIGHBOURS - 1)
    lines = [np.polyfit(x[i : i + 2 * NEIGHBOURS + 1], y[i : i + 2 * NEIGHBOURS + 1], 1) for i in starts]
    return np.array([np.polyval(line, at) for line, at in zip(lines, x, strict=True)])
