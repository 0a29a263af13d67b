"""What scripts do with an experiment: a run from start-up to closing report, previews and estimates on its way."""

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion import build, respacing, workdir
from diffusion.budget import Budget
from diffusion.build import Experiment
from diffusion.config import config_hash
from diffusion.data.source import Source
from diffusion.evaluation import likelihood, samples
from diffusion.figures.grid import grid
from diffusion.findings import Findings, measure
from diffusion.paper import deviations
from diffusion.training import loop, noise_scale, report
from diffusion.training.checkpoint import Checkpoints
from diffusion.training.feed import Feed
from diffusion.training.loop import Hooks, Plan
from diffusion.training.metrics import Writer
from diffusion.training.sharding import make_mesh
from diffusion.training.state import Params, TrainState
from diffusion.validation import doubts, validate

NOISE_SCALE = 2**32 - 1
"""Folded into the training key for the noise scale: no step of training has this number."""

GRID_SIDE = 512
"""Sample grids of small images are enlarged to about this many pixels."""


class Outcome(NamedTuple):
    """How a run ended."""

    findings: Findings
    first: int
    """The step from which it went on; 0: it was done in one go."""
    step: int


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


def afford(ours: Experiment) -> Budget:
    """What one look may cost on this platform."""
    limits = {"cpu": ours.config.eval.cpu_flop or float("inf")}
    return Budget(limits.get(jax.default_backend(), float("inf")), forward_flops(ours))


def hooks(ours: Experiment, held_out: Source, feed: Feed, budget: Budget, folder: Path) -> Hooks:
    """Cheap looks at the state while training: a DDIM grid, an estimate of the bound, the noise scale if asked for.

    Each is cut down to the budget, but never below 4 images. Estimates go to eval/ in the folder, with their protocol.
    """
    c = ours.config
    preview_steps = min(c.sample.preview_steps, c.diffusion.T)
    preview = ours.sampler("ddim", respacing.parse(str(preview_steps)), eta=0.0)
    n = max(budget.images(c.sample.n, preview_steps), min(4, c.sample.n))
    batch = ours.batch(min(c.sample.batch_size, n))
    steps = min(c.eval.quick_steps, ours.process.T)
    estimate = ours.estimate(steps)
    quick = min(c.eval.quick_n, held_out.size)
    some = np.arange(max(budget.images(quick, steps), min(4, quick)))
    eval_batch = ours.batch(min(c.eval.batch_size, len(some)))

    def draw(params: Params) -> np.ndarray:
        run = lambda keys, labels: preview(params, keys, labels).x_0  # noqa: E731
        return picture(np.concatenate(list(samples.draw(run, n, batch, c.seed, ours.net.classes))))

    noise = gradient_noise(ours, feed) if c.eval.noise_scale else lambda state: {}  # noqa: ARG005

    def evaluate(state: TrainState) -> dict[str, float]:
        mean, error = likelihood.quick(partial(estimate, state.ema), held_out, some, eval_batch, c.seed)
        values = {"bits_per_dim": mean, "standard_error": error, **noise(state)}
        step = int(state.step)
        protocol = {"images": len(some), "steps_per_image": steps, "weights": "ema", "clip": c.sample.clip}
        stamp = {"step": step, "config_hash": config_hash(c), **protocol}
        workdir.write_json(folder / "eval" / f"estimate_test_{step}.json", {**values, **stamp})
        return values

    return Hooks(draw, evaluate)


def gradient_noise(ours: Experiment, feed: Feed) -> Callable[[TrainState], dict[str, float]]:
    """The gradient noise scale at the raw parameters, from the next training batches with noise of their own."""
    measure = jax.jit(partial(noise_scale.measure, ours.task(), feed.gather))

    def noise(state: TrainState) -> dict[str, float]:
        batches = feed.stack(list(islice(feed.batches(int(state.step)), ours.config.eval.noise_scale_batches)))
        found = measure(state, jax.random.fold_in(state.key, NOISE_SCALE), feed.data, batches)
        return {"noise_scale": float(found.ratio), "grad_trace": float(found.trace), "grad_square": float(found.square)}

    return noise


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


def run(config: ConfigDict, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Trains in a folder, or goes on with what stopped there, and closes with the report; `say` prints a line.

    The compiler's settings must be in place (runtime.configure). Raises ValueError where the folder belongs to another
    config, and where config, data and devices do not go together; Diverged where the loss does not stay finite.
    """
    mesh = make_mesh()
    devices = report.describe_devices(list(mesh.devices.flat))
    source, held_out = build.source(config, train=True), build.source(config, train=False)
    validate(config, size=source.shape[0])
    ours = build.experiment(config, source.shape, source.classes, mesh)
    known = workdir.open_run(folder, workdir.Run(config, source.shape, source.classes), devices)
    say(f"folder      {folder}" + (" (taken up again)" if known else ""))
    programs = os.environ.get("JAX_COMPILATION_CACHE_DIR", "memory only")
    say(f"device      {devices}, compiled programs kept in {programs}")
    with closing(Checkpoints(folder / "checkpoints", config.train.keep)) as checkpoints:
        state = ours.create_state()
        newest = checkpoints.latest()
        if newest is not None:
            state = checkpoints.restore(newest, state)
            say(f"checkpoint  goes on from step {newest}")
        first = int(state.step)

        feed, budget = ours.feed(source), afford(ours)
        for line in describe(ours, source, held_out, state, feed):
            say(line)
        for line in deviations(config):
            say(f"not paper's {line}")
        for line in doubts(config):
            say(f"WARNING     {line}")

        with closing(Writer(folder, first)) as writer:
            state = loop.train(
                ours.task(),
                ours.update(),
                feed,
                state,
                plan(config),
                hooks(ours, held_out, feed, budget, folder),
                writer,
                checkpoints,
                say,
                compiled=lambda program: say(describe_memory(program, state)),
            )
            found = measure(ours, source, held_out, state.ema, budget)
            finish(ours, found, int(state.step), folder, writer, say)
            return Outcome(found, first, int(state.step))


def finish(
    ours: Experiment, found: Findings, step: int, folder: Path, writer: Writer, say: Callable[[str], None]
) -> None:
    """The closing report: samples from the full chain, the exact bound on held-out images, scores of the samples."""
    c = ours.config
    path = folder / "samples" / f"step_{step:07d}.png"
    if len(found.drawn):
        path = writer.grid(step, f"step_{step:07d}_{c.sample.sampler}", picture(found.drawn))
    chain = {"sampler": c.sample.sampler, "grid": c.sample.grid, "eta": c.sample.eta, "clip": c.sample.clip}
    stamp = {"step": step, "config_hash": config_hash(c), "weights": "ema", **chain}
    if found.likelihood:
        bound = found.likelihood.report()
        writer.scalars(step, {f"test/{name}": value for name, value in bound.items()})
        workdir.write_json(folder / "eval" / f"nll_test_{step}.json", {**bound, **stamp})
    if found.score:
        score = found.score.report()
        writer.scalars(step, {f"test/{found.score.name}": found.score.value})
        workdir.write_json(folder / "eval" / f"{found.score.name}_{step}.json", {**score, **stamp})
    for line in found.lines():
        say(line)
    say(f"samples     {path}")
