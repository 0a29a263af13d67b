"""What scripts do with an experiment: the start-up report, previews and estimates while training, the closing report."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion import build, workdir
from diffusion.build import Experiment
from diffusion.config import config_hash
from diffusion.data.source import Source
from diffusion.evaluation import likelihood, samples
from diffusion.evaluation.classes import judge
from diffusion.figures.grid import grid
from diffusion.training import report
from diffusion.training.checkpoint import Checkpoints
from diffusion.training.feed import Feed
from diffusion.training.loop import Hooks, Plan
from diffusion.training.metrics import Writer
from diffusion.training.state import Params, TrainState

GRID_SIDE = 512
"""Sample grids of small images are enlarged to about this many pixels."""

JUDGED_SIDE = 32
"""Labelled grey images up to this size are judged by a pixel classifier in the closing report."""


def plan(config: ConfigDict) -> Plan:
    """The training loop's calendar."""
    c = config.train
    return Plan(
        c.steps, c.batch_size, c.steps_per_dispatch, c.log_every, c.sample_every, c.eval_every, c.checkpoint_every
    )


def describe(ours: Experiment, source: Source, held_out: Source, state: TrainState, feed: Feed) -> list[str]:
    """The start-up report: data, network, cost of a step, memory of the state."""
    c = ours.config
    height, width, channels = source.shape
    where = "on the device" if feed.data else "streamed"
    forward = forward_flops(ours)
    return [
        f"data        {source.name}: {source.size} train and {held_out.size} held-out images of "
        f"{height}x{width}x{channels}, {where}",
        f"diffusion   {c.diffusion.schedule} schedule, T = {ours.process.T}, predicts {c.diffusion.parameterization}, "
        f"{c.diffusion.variance} variance, objective {c.objective.name}",
        f"network     {report.count(state.params):,} parameters, {report.quantity(forward, 'FLOP')} forward per image, "
        f"about {report.quantity(3 * forward * c.train.batch_size, 'FLOP')} per step of {c.train.batch_size} images",
        f"plan        {c.train.steps:,} steps, {c.train.steps * c.train.batch_size / source.size:.3g} epochs",
    ]


def describe_memory(program: Any, state: TrainState) -> str:
    """Memory of a compiled training step on one device: the state and the largest set of temporaries."""
    held, stats = report.size(state), program.memory_analysis()
    if stats is None:
        return f"memory      {report.quantity(held, 'B')} of state"
    temporary = stats.temp_size_in_bytes
    return (
        f"memory      about {report.quantity(stats.argument_size_in_bytes + temporary, 'B')} on each device "
        f"({report.quantity(held, 'B')} of parameters, averages and moments in all, "
        f"{report.quantity(temporary, 'B')} of activations)"
    )


def forward_flops(ours: Experiment) -> float:
    """Floating-point operations of one network evaluation of one image, as counted by XLA before optimisation."""
    params = jax.eval_shape(ours.init, jax.random.key(0))
    x, t = jax.ShapeDtypeStruct((1, *ours.shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)

    def forward(params: Params, x: Any, t: Any) -> Any:
        return ours.denoise(params, jnp.zeros(1, jnp.int32), clip=False)(x, t)

    return float((jax.jit(forward).lower(params, x, t).cost_analysis() or {}).get("flops", float("nan")))


def hooks(ours: Experiment, held_out: Source) -> Hooks:
    """Cheap looks at the parameters while training: a DDIM grid and an estimate of the bound."""
    c = ours.config
    batch = ours.batch(min(c.sample.batch_size, c.sample.n))
    preview = ours.sampler("ddim", build.evenly(c, min(c.sample.preview_steps, c.diffusion.T)))
    steps = min(c.eval.quick_steps, ours.process.T)
    estimate = ours.estimate(steps)
    some = np.arange(min(c.eval.quick_n, held_out.size))
    eval_batch = ours.batch(min(c.eval.batch_size, len(some)))

    def draw(params: Params) -> np.ndarray:
        run = lambda keys, labels: preview(params, keys, labels).x_0  # noqa: E731
        return picture(np.concatenate(list(samples.draw(run, c.sample.n, batch, c.seed, ours.net.classes))))

    def evaluate(params: Params) -> dict[str, float]:
        mean, error = likelihood.quick(partial(estimate, params), held_out, some, eval_batch, c.seed)
        return {"bits_per_dim": mean, "standard_error": error}

    return Hooks(draw, evaluate)


def load(folder: Path, run: workdir.Run, step: int | None = None, raw: bool = False) -> tuple[Experiment, Params, int]:
    """The experiment of a run, its parameters (averaged, or raw) and their step: the newest checkpoint unless told.

    Raises ValueError where the run has no checkpoint, or not that one.
    """
    ours = build.experiment(run.config, run.shape, run.classes)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        steps = checkpoints.steps()
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise ValueError(f"{folder} has {wanted}; it has {', '.join(map(str, steps)) or 'none'}")
        chosen = steps[-1] if step is None else step
        state = checkpoints.restore(chosen, ours.create_state())
    finally:
        checkpoints.close()
    return ours, state.params if raw else state.ema, chosen


def picture(pixels: np.ndarray) -> np.ndarray:
    """A grid large enough to look at."""
    return grid(pixels, min_side=GRID_SIDE)


def finish(
    ours: Experiment,
    source: Source,
    held_out: Source,
    state: TrainState,
    folder: Path,
    writer: Writer,
    say: Callable[[str], None],
) -> None:
    """The closing report: samples from the full chain, the exact bound on held-out images, a judgement of the samples."""
    c, step = ours.config, int(state.step)
    sampler, batch = ours.sampler(), ours.batch(min(c.sample.batch_size, c.sample.n))
    run = lambda keys, labels: sampler(state.ema, keys, labels).x_0  # noqa: E731
    drawn = np.concatenate(list(samples.draw(run, c.sample.n, batch, c.seed, ours.net.classes)))
    path = writer.grid(step, f"step_{step:07d}_{c.sample.sampler}", picture(drawn))
    if c.eval.final:
        result = bound(ours, held_out, state.ema)
        writer.scalars(step, {f"test/{name}": value for name, value in result.report().items()})
        workdir.write_json(
            folder / "eval" / f"nll_test_{step}.json",
            {**result.report(), "step": step, "config_hash": config_hash(c), "weights": "ema", "clip": c.sample.clip},
        )
        say(
            f"bound       {result.total:.3f} +- {result.standard_error:.3f} bits/dim on {result.images} held-out images "
            f"(L_T {result.prior:.5f}, sum of L_t-1 {result.steps:.3f}, L_0 {result.decoder:.3f})"
        )
    if source.classes and source.shape[-1] == 1 and max(source.shape[:2]) <= JUDGED_SIDE:
        for line in judge(source, held_out, drawn).lines():
            say(line)
    say(f"samples     {path}")


def bound(ours: Experiment, held_out: Source, params: Params) -> likelihood.Likelihood:
    """The exact bound over the config's number of held-out images."""
    c = ours.config
    index = np.arange(min(c.eval.n or held_out.size, held_out.size))
    batch = ours.batch(min(c.eval.batch_size, len(index)))
    return likelihood.likelihood(partial(ours.bound(), params), held_out, index, batch, c.seed)
