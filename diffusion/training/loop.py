"""The training loop: dispatch, log one interval late, sample, evaluate, save."""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from diffusion.distributed import sharding
from diffusion.runtime.signals import Stop, Stopped
from diffusion.training import health
from diffusion.training.course import Course, Hooks, Plan
from diffusion.training.feed import Feed
from diffusion.training.progress import Progress
from diffusion.training.state import TrainState
from diffusion.training.step import HEALTH, Metrics, Task, Update, train_steps
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.streams import Kept
from diffusion.workdir.writer import Writer


class Diverged(ValueError):
    """Update after update was not finite and none was made: the state is the last good one."""


def compile_steps(task: Task, update: Update, feed: Feed, state: TrainState, batches: Any) -> Any:
    """train_steps compiled for the shapes of its arguments; the state is donated and stays where it is placed."""
    return lower_steps(task, update, feed, state, batches).compile()


def lower_steps(task: Task, update: Update, feed: Feed, state: TrainState, batches: Any) -> Any:
    """What compile_steps compiles; of the state shapes, types and places will do (ShapeDtypeStructs)."""

    def run(state: TrainState, data: Any, batches: Any) -> tuple[TrainState, Metrics]:
        return train_steps(task, update, feed.gather, state, data, batches)

    places = jax.tree.map(lambda x: x.sharding, state)
    out = (places, sharding.replicated(feed.mesh))
    return jax.jit(run, donate_argnums=0, out_shardings=out).lower(state, feed.data, batches)


def train(
    task: Task,
    update: Update,
    feed: Feed,
    state: TrainState,
    plan: Plan,
    hooks: Hooks,
    writer: Writer,
    checkpoints: Checkpoints,
    say: Callable[[str], None],
    stop: Stop | None = None,
    kept: Kept | None = None,
    programs: Mapping[int, Any] = MappingProxyType({}),
    since: float | None = None,
) -> TrainState:
    """Runs from state.step to plan.steps and returns the last state; the one given is donated.

    Saves at step 0, every checkpoint_every steps and at the end; what is kept for good goes to `kept`. The metrics of
    an interval are read from the device after the next interval has been dispatched, so that the device does not wait
    for the host. `programs` are those of compile_steps that are at hand, by the steps they take; `since`, by
    time.monotonic(), is when the run was begun. What cannot be written for lack of room is said, and training goes on.
    Raises Diverged when update.guard has lost its patience, and Stopped when `stop` was asked for, the state saved
    either way; ValueError where that state cannot be saved.
    """
    step, stop, programs = int(state.step), stop or Stop(), dict(programs)
    with (
        stop.deferred(),
        closing(feed.batches(step)) as batches,
        closing(Progress(step, plan.steps, plan.batch_size, say, since)) as progress,
    ):
        names, patience = health.names(state.params), update.guard.patience
        write = partial(_write, writer=writer, progress=progress, patience=patience, names=names)
        course = Course(plan, hooks, writer, checkpoints, kept, progress, stop, write)
        _end(jax.device_get(state.health), patience, names)  # one that had diverged when it was saved
        begun = False
        try:
            while step < plan.steps:
                if stop.agreed():
                    raise stop.stopped()
                k = plan.together(step)
                batch = feed.stack([next(batches) for _ in range(k)])
                if k not in programs:
                    programs[k] = compile_steps(task, update, feed, state, batch)
                if not begun:  # not earlier: a save in the background would hold up what is traced here
                    course.begin(step, state)
                    begun = True
                state, metrics = programs[k](state, feed.data, batch)
                step += k
                course.after(step, state, metrics)
            if not begun:
                course.begin(step, state)
            course.save(step, state)
            if stop.agreed(wait=True):
                raise stop.stopped()
        except (Stopped, Diverged):
            try:
                course.read()
            finally:
                checkpoints.require(step, state, course.note())
            raise
    return state


def _write(
    step: int, window: list[Metrics], writer: Writer, progress: Progress, patience: int, names: tuple[str, ...]
) -> None:
    """Means of an interval and the updates skipped so far, to the writer and the progress line.

    Says so where the last update was not finite. Raises Diverged, naming what was not finite first (`names` are what
    Health.culprit counts), where there are no more updates to come.
    """
    read = jax.device_get(window)
    state = read[-1][HEALTH]
    totals = {name: np.sum([metrics[name] for metrics in read], axis=0) for name in read[0] if name != HEALTH}
    values = {f"train/{name}": float(s / n) for name, (s, n) in totals.items() if n > 0}
    progress.show(step, values.get("train/loss", math.nan))
    skipped = {"train/skipped": float(state.skipped), "perf/images_per_second": progress.images_per_second}
    writer.scalars(step, {**values, **skipped})
    _end(state, patience, names)
    if state.streak:
        progress.say(f"WARNING     {_fault(state, names)}; updates are skipped, and {patience} in a row end the run")


def _end(state: health.Health, patience: int, names: tuple[str, ...]) -> None:
    """Raises Diverged where there are no more updates to come."""
    if state.streak >= patience:
        raise Diverged(
            f"{_fault(state, names)}, the first of {patience} in a row: training has diverged and stops with the "
            f"parameters of step {state.since}, which are saved; start again with a lower optim.lr, or with optim.clip "
            "above 0, in another folder"
        )


def _fault(state: health.Health, names: tuple[str, ...]) -> str:
    """What was not finite, and when."""
    return f"{names[state.culprit]} was not finite at step {state.since + 1}"
