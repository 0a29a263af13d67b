"""The likelihood of a run's probability flow over a data set, as a result file beside that of the bound."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import diffusion
from diffusion.core import flow_likelihood, respacing
from diffusion.core.elbo import bits_per_dim
from diffusion.core.respacing import Grid
from diffusion.core.types import Image, Keys, Labels, PerExample
from diffusion.data.source import Source
from diffusion.distributed import hosts, sharding
from diffusion.evaluation import bound, protocol
from diffusion.evaluation.protocol import Subject
from diffusion.experiment.build import Experiment
from diffusion.metrics.partial_results import Kept
from diffusion.metrics.per_image import per_image
from diffusion.training.state import Params
from diffusion.workdir import results
from diffusion.workdir.results import Result, plus_minus

NAME = "flow_nll"
PROBES = 1
"""Hutchinson probes at each step: their errors average out over steps and images."""

MODEL = {"clip": False, "dequantisation": "uniform", "solver": "Heun on the grid, from t = 1", "probes": PROBES}
"""What this likelihood is of, apart from the weights. A flow must be smooth: x_0_hat is not clipped."""


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
    """Bits/dim of the first n images of a split (by default all) under the flow on a grid of steps (the config's).

    Dropout is off, images are not flipped. Numbers of images that are done are kept below eval/parts of the run until
    the result is there, bound to everything that they depend on. Raises ValueError where there are not n images.
    """
    ours, c = subject.ours, subject.ours.config
    n = bound.check(source, split, n)
    text = c.sample.grid if grid is None else grid
    chosen = respacing.parse(text)
    batch = ours.batch(min(batch_size or c.eval.batch_size, n))
    facts = {**protocol.of_run(ours, subject.folder, subject.step, subject.raw), **protocol.of_chain(ours, text)}
    facts |= {**MODEL, "split": split, "images": n, "seed": seed}
    own = ("config_hash", "step", "weights", *MODEL, "split", "images", "seed")
    key = {name: facts[name] for name in own} | {
        "parameters": protocol.digest(subject.params),
        "steps": chosen(c.diffusion.T).tolist(),
        "data": [source.name, source.size, *source.shape],
        "version": diffusion.__version__,
    }
    kept = Kept(subject.folder / results.FOLDER / "parts", NAME, key)
    nats = per_image(partial(likelihood(ours, chosen), subject.params), source, n, batch, seed, kept, progress)
    result = of(nats, int(np.prod(source.shape)), facts)
    path = results.write(subject.folder, result, *protocol.departures(ours, facts, source.size))
    kept.remove()
    return result, path


def likelihood(ours: Experiment, grid: Grid) -> Callable[[Params, Keys, Image, Labels], PerExample]:
    """A jitted (params, keys, x_0, labels) -> -log P(x_0) in nats by the flow on a grid, uniformly dequantised."""
    process = ours.sampled(grid)

    def run(params: Params, keys: Keys, x_0: Image, labels: Labels) -> PerExample:
        denoise = ours.denoise(params, labels, clip=False)
        return flow_likelihood.nll(keys, process, denoise, x_0, flow_likelihood.hutchinson(keys, PROBES))

    return hosts.by_rows(run, sharding.split_axis(ours.mesh))


def of(nats: np.ndarray, dims: int, facts: dict) -> Result:
    """The result for the nats of each image of so many dimensions; `facts` is its protocol. The error is that of the
    mean over images, which has those of dequantisation and probes in it."""
    bits = bits_per_dim(nats, dims)
    error = float(bits.std(ddof=1) / np.sqrt(len(bits))) if len(bits) > 1 else float("nan")
    values = {"bits_per_dim": float(bits.mean()), "standard_error": error, "images": len(bits)}
    return Result(NAME, values, {}, facts)


def lines(result: Result) -> list[str]:
    """The likelihood for a console report."""
    v, told = result.values, result.protocol
    error = plus_minus(v["standard_error"], ".4f")
    bits = f"{v['bits_per_dim']:.4f}{error} bits/dim on {told['images']} {told['split']} images"
    return [f"flow_nll    {bits}, dequantised, by the probability flow of {told['steps']} steps"]
