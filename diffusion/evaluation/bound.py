"""The bound of a run over a data set, as a result file: batch by batch, taken up again where it was stopped."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import diffusion
from diffusion.core import respacing
from diffusion.data.source import Source
from diffusion.evaluation import protocol
from diffusion.evaluation.protocol import Subject
from diffusion.metrics import likelihood, rate_distortion
from diffusion.metrics.likelihood import Likelihood
from diffusion.metrics.partial_results import Kept
from diffusion.workdir import results
from diffusion.workdir.results import Result, plus_minus

NAME = "nll"
SPLITS = {"train": True, "test": False}
"""Name -> whether it is the training split."""


def measure(
    subject: Subject,
    source: Source,
    split: str,
    n: int | None = None,
    grid: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> tuple[Result, Path]:
    """The exact bound over the first n images of a split (by default all), on a grid of steps (the config's).

    Dropout is off, images are not flipped, x_0_hat is clipped as config.sample.clip says. Partial sums are kept below
    eval/parts of the run until the result is there, bound to everything that the numbers depend on, which the batch
    size and the devices are not. Raises ValueError where there are not n images.
    """
    ours, c = subject.ours, subject.ours.config
    n = check(source, split, n)
    text = c.sample.grid if grid is None else grid
    chosen = respacing.parse(text)
    batch = ours.batch(min(batch_size or c.eval.batch_size, n))
    facts = {**protocol.of_run(ours, subject.folder, subject.step, subject.raw), **protocol.of_chain(ours, text)}
    facts |= {"split": split, "images": n, "seed": seed}
    own = ("config_hash", "step", "weights", "clip", "split", "images", "seed")
    key = {name: facts[name] for name in own} | {
        "parameters": protocol.digest(subject.params),
        "steps": chosen(c.diffusion.T).tolist(),
        "data": [source.name, source.size, *source.shape],
        "version": diffusion.__version__,
    }
    kept = Kept(subject.folder / results.FOLDER / "parts", NAME, key)
    bound = partial(ours.bound(chosen), subject.params)
    found = likelihood.likelihood(bound, source, np.arange(n), batch, seed, kept, progress)
    result = of(found, facts)
    path = results.write(subject.folder, result, *protocol.departures(ours, facts, source.size))
    kept.remove()
    return result, path


def check(source: Source, split: str, n: int | None) -> int:
    """The number of images meant by n, None being all. Raises ValueError where the split has fewer."""
    if n is not None and n > source.size:
        raise ValueError(
            f"--n={n}: the {split} split of {source.name} has {source.size} images; give at most that many"
        )
    return source.size if n is None else n


def of(found: Likelihood, facts: dict[str, Any]) -> Result:
    """The result for a bound; `facts` is its protocol."""
    return Result(NAME, found.report(), found.series(), facts)


def lines(result: Result) -> list[str]:
    """A bound for a console report: the total, its parts, and the rate-distortion table."""
    v = result.values
    split, images = result.protocol["split"], result.protocol["images"]

    def term(name: str, digits: int) -> str:
        return f"{v[name]:.{digits}f}{plus_minus(v[f'{name}_standard_error'], '.2g')}"

    error = plus_minus(v["standard_error"], ".4f")
    rows = rate_distortion.table(v["L_T"], result.series["terms"], result.series["x_0_rmse"])
    return [
        f"nll         {v['bits_per_dim']:.4f}{error} bits/dim on {images} {split} images",
        f"  L_T                {term('L_T', 6)}",
        f"  sum of L_t-1       {term('L_steps', 4)}",
        f"  L_0                {term('L_0', 4)}",
        f"  rate + distortion  {v['rate']:.4f} + {v['distortion']:.4f}, RMSE {v['rmse']:.3f} of 255",
        *rate_distortion.lines(rows),
    ]
