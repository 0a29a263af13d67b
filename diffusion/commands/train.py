"""What scripts do with an experiment: a run from start-up to closing report."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from diffusion.commands import out_of_memory, previews
from diffusion.config.validation import doubts, remarks, validate
from diffusion.data.source import Source
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation.budget import Budget
from diffusion.evaluation.subject import Subject
from diffusion.evaluation.summary import Summary, measure, write
from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.published.recipes import deviations
from diffusion.runtime import text
from diffusion.runtime.signals import Stop
from diffusion.training import loop, memory, profiling
from diffusion.training.feed import Feed
from diffusion.training.loop import Plan
from diffusion.training.start import start
from diffusion.training.state import Params, TrainState
from diffusion.workdir.checkpoint import shared
from diffusion.workdir.run import Run, lock, open_run, read_run
from diffusion.workdir.streams import Streams
from diffusion.workdir.writer import Silent, Writer


class Outcome(NamedTuple):
    """How a run ended."""

    summary: Summary
    first: int
    """The step from which it went on; 0: it was done in one go."""
    step: int


def plan(config: ConfigDict) -> Plan:
    """The training loop's calendar."""
    c = config.train
    return Plan(
        *(c.steps, c.batch_size, c.steps_per_dispatch),
        *(c.log_every, c.sample_every, c.eval_every, c.checkpoint_every, c.keep_every, c.keep_best),
    )


def describe(
    ours: Experiment, source: Source, held_out: Source, state: TrainState, feed: Feed, forward: float
) -> list[str]:
    """The start-up report: data, network, cost of a step, what is unusual. `forward`: operations on one image."""
    c = ours.config
    height, width, channels = source.shape
    where = "on the device" if feed.data else "streamed"
    return [
        f"data        {source.name}: {source.size} train and {held_out.size} held-out images of "
        f"{height}x{width}x{channels}, {where}",
        f"diffusion   {c.diffusion.schedule} schedule, T = {ours.process.T}, predicts {c.diffusion.parameterization}, "
        f"{c.diffusion.variance} variance, objective {c.objective.name}",
        f"network     {text.count(state.params):,} parameters, {text.quantity(forward, 'FLOP')} forward per image, "
        f"about {text.quantity(3 * forward * c.train.batch_size, 'FLOP')} per step of {c.train.batch_size} images",
        f"plan        {c.train.steps:,} steps, {c.train.steps * c.train.batch_size / source.size:.3g} epochs",
        *(f"not paper's {line}" for line in deviations(c)),
        *(f"WARNING     {line}" for line in doubts(c)),
        *(f"remark      {line}" for line in remarks(c)),
    ]


def describe_memory(program: Any, state: TrainState) -> str:
    """Memory of a compiled training step on one device: the state and the largest set of temporaries."""
    held, stats = text.size(state), program.memory_analysis()
    if stats is None:
        return f"memory      {text.quantity(held, 'B')} of state"
    temporary = stats.temp_size_in_bytes
    return (
        f"memory      about {text.quantity(stats.argument_size_in_bytes + temporary, 'B')} on each device "
        f"({text.quantity(held, 'B')} of parameters, averages and moments in all, "
        f"{text.quantity(temporary, 'B')} of activations)"
    )


def forward_flops(ours: Experiment, params: Params | None = None) -> float:
    """Floating-point operations of one network evaluation of one image, as counted by XLA before optimisation.

    They are those of the network as it reads, however it is computed (nets/cpu/layers.py). Of `params` only the shapes
    count; without them the network is traced once more to find those.
    """
    if params is None:
        params = jax.eval_shape(ours.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    x, t = jax.ShapeDtypeStruct((1, *ours.shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)

    def forward(params: Params, x: Any, t: Any) -> Any:
        label = jnp.zeros(1, jnp.int32) if ours.net.classes else None
        return ours.net.apply({"params": params}, x, t, label)

    return float((jax.jit(forward).lower(params, x, t).cost_analysis() or {}).get("flops", float("nan")))


def afford(ours: Experiment, params: Params | None = None) -> Budget:
    """What one look may cost on this platform; `params` as in forward_flops."""
    limits = {"cpu": ours.config.eval.cpu_flop or float("inf")}
    return Budget(limits.get(jax.default_backend(), float("inf")), forward_flops(ours, params))


def run(
    config: ConfigDict,
    folder: Path,
    say: Callable[[str], None],
    stop: Stop | None = None,
    profile: bool = False,
) -> Outcome:
    """Trains in a folder, or goes on with what stopped there, and closes with the report; `say` prints a line.

    With `profile` a few steps are traced into the folder (training/profiling.py).

    The compiler's settings must be in place (runtime.configure). Raises ValueError where the folder belongs to another
    config or is in use, where config, data and devices do not go together, and where the last state cannot be saved;
    Diverged where the loss does not stay finite; Stopped, the state saved, when `stop` was asked for. With several
    processes all call it alike, process 0 speaks and writes, and checkpoints are written together.
    """
    since, mesh = time.monotonic(), make_mesh()
    devices = text.describe_devices(list(mesh.devices.flat))
    source, held_out = build.sources(config)
    validate(config, size=source.shape[0])
    ours = build.experiment(config, source.shape, source.classes, mesh)
    lead, known = jax.process_index() == 0, False
    say = say if lead else lambda line: None  # noqa: ARG005
    with ExitStack() as stack:
        if lead:
            stack.enter_context(lock(folder))
            known = open_run(folder, Run(config, source.shape, source.classes), devices)
        known = shared(known)  # the others come after process 0
        there = read_run(folder)
        say(f"folder      {folder}" + (" (taken up again)" if known else ""))
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "memory only")
        say(f"device      {devices}, compiled programs kept in {cache}")
        streams = Streams(folder, config.train.keep, there.content)
        stack.callback(streams.close)
        fresh, stop = ours.fresh(), stop or Stop()
        like, make = fresh
        saved = streams.resume(like, say)
        if saved is not None:
            like, make = saved, lambda: saved
            say(f"checkpoint  goes on from step {int(saved.step)}")
        first = int(saved.step) if saved is not None else 0

        feed, calendar = ours.feed(source), plan(config)
        feed = profiling.traced(feed, folder / "profile", say) if profile else feed
        writer = stack.enter_context(closing(Writer(folder, first) if lead else Silent()))
        with memory.advised(lambda: out_of_memory.out_of_memory(ours, like)):
            with stop.deferred(), start(ours.task(), ours.update(), feed, calendar, like, make, first) as begun:
                budget = afford(ours, like.params)
                for line in describe(ours, source, held_out, like, feed, budget.forward):
                    say(line)
                hooks = previews.hooks(ours, held_out, feed, budget, folder, say)
                programs, state = begun.programs(), begun.state()
            for program in programs.values():
                say(describe_memory(program, state))
            state = loop.train(
                *(ours.task(), ours.update(), feed, state, calendar, hooks, writer, streams.rolling, say),
                stop=stop,
                kept=streams.kept,
                programs=programs,
                since=since,
            )
        subject = Subject(ours, state.ema, folder, int(state.step), raw=False)
        summary = measure(subject, source, held_out, budget)
        try:
            if lead:
                write(summary, subject, held_out)
            finish(ours, summary, int(state.step), folder, writer, say)
        finally:  # where a full disk has stopped the report too, the state is what must be told of
            streams.rolling.require(int(state.step), state)
        return Outcome(summary, first, int(state.step))


def finish(
    ours: Experiment, summary: Summary, step: int, folder: Path, writer: Writer, say: Callable[[str], None]
) -> None:
    """The closing report: samples from the full chain, the exact bound on held-out images, scores of the samples."""
    c = ours.config
    path = folder / "samples" / f"step_{step:07d}.png"
    if len(summary.samples):
        picture = previews.picture(summary.samples, ours.classes)
        path = writer.grid(step, f"step_{step:07d}_{c.sample.sampler}", picture)
    if summary.bound:
        writer.scalars(step, {f"test/{name}": value for name, value in summary.bound.values.items()})
    if summary.distance:
        writer.scalars(step, {f"test/{summary.distance.name}": summary.distance.values[summary.distance.name]})
    for line in summary.lines():
        say(line)
    say(f"samples     {path}")
