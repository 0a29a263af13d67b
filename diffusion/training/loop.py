"""The training loop: step, log, evaluate, sample, save, stop."""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import jax

from diffusion.distributed import sharding
from diffusion.runtime.signals import Stop, Stopped
from diffusion.training import memory_of_a_step
from diffusion.training.batch_feed import Feed
from diffusion.training.periodic_actions import Action, Moment, due, perform
from diffusion.training.progress_lines_and_metrics import Diverged, Log
from diffusion.training.state import TrainState
from diffusion.training.step import Metrics, Trainable, Update, train_steps
from diffusion.workdir.checkpoint import Checkpoints

AHEAD = 2
"""Dispatches that wait for the device behind the one that it computes: it waits for the host only where an interval of
metrics ends, and a stop, which has to compute all of them, comes soon."""


class Training(NamedTuple):
    """What is trained, on which batches, and for how long."""

    task: Trainable
    update: Update
    feed: Feed
    steps: int
    steps_per_dispatch: int = 1
    """Training steps per compiled call."""
    advice: str = "use a smaller batch"
    """What to do where memory is exhausted: the end of the error line."""

    def together(self, step: int, periods: Iterable[int]) -> int:
        """Steps of the dispatch at `step`: steps_per_dispatch, or 1 where something is due before they are done."""
        stops = [self.steps, *((step // period + 1) * period for period in periods if period)]
        return self.steps_per_dispatch if min(stops) - step >= self.steps_per_dispatch else 1


def train(
    training: Training,
    state: TrainState,
    log: Log,
    actions: Sequence[Action],
    streams: Sequence[Checkpoints],
    stop: Stop,
) -> TrainState:
    """The state after `training.steps` steps, starting from state.step; `state` is donated.

    After each dispatch the actions that are due are performed, in their order; a resumed run first performs those due
    at state.step, which skip what a stopped process had completed. The first program is compiled before anything is
    saved. `streams` are the checkpoints, the rolling ones first.
    Raises Diverged after update.guard.patience skipped updates in a row and Stopped when `stop` was requested, both
    with the state saved if it has changed; ValueError where that state cannot be saved, or with one line where memory
    is exhausted.
    """
    step, steps, feed, programs = int(state.step), training.steps, training.feed, {}
    queue: deque[Metrics] = deque()
    log.start(state, streams)
    with memory_of_a_step.advised(training.advice), stop.deferred(), closing(feed.batches(step)) as batches:

        def prepared(state: TrainState) -> tuple[int, Any]:
            """The number of steps of the next dispatch, whose program is compiled, and its batches."""
            k = training.together(step, [log.period, *(action.period for action in actions)])
            batch = feed.stack([next(batches) for _ in range(k)])
            if k not in programs:
                programs[k] = compile_steps(training.task, training.update, feed, state, batch)
                log.progress.report(memory_of_a_step.describe(programs[k], state))
            return k, batch

        state = training.update.store(state)
        try:
            first = prepared(state) if step < steps else None
            stop.check(wait=True)
            now = [action for action in actions if action.due(step, steps)]
            perform(now, Moment(step, training.update.whole(state), log.note(), resumed=True), log.progress.report)
            while step < steps:
                stop.check()
                (k, batch), first = first or prepared(state), None
                state, metrics = programs[k](state, feed.data, batch)
                step += k
                queue.append(metrics)
                if len(queue) > AHEAD:
                    jax.block_until_ready(queue.popleft())
                log.add(step, metrics)
                if due(step, log.period) or step == steps:
                    log.end_interval(step)
                if now := [action for action in actions if action.due(step, steps)]:
                    with log.progress.pause(metrics):
                        perform(now, Moment(step, training.update.whole(state), log.note()), log.progress.report)
                for line in [line for stream in streams for line in stream.news()]:
                    log.progress.report(line)
            stop.check(wait=True)
        except (Stopped, Diverged):
            if step:
                streams[0].require(step, training.update.whole(state), log.note())
            raise
    return training.update.whole(state)


def require_steps_left(done: int, steps: int) -> None:
    """Raises ValueError where a run has made more than `steps` steps: its results would pass for those of fewer."""
    if done > steps:
        raise ValueError(
            f"config.train.steps: the run has made {done} steps already, more than {steps}; raise it, or give another "
            "--workdir"
        )


def compile_steps(task: Trainable, update: Update, feed: Feed, state: TrainState, batches: Any) -> Any:
    """train_steps compiled for the shapes of its arguments; the state is donated and stays where it is placed.

    The arguments, the feed's data included, may be ShapeDtypeStructs.
    """

    def run(state: TrainState, data: Any, batches: Any) -> tuple[TrainState, Metrics]:
        return train_steps(task, update, feed.gather, state, data, batches)

    places = jax.tree.map(lambda x: x.sharding, state)
    out = (places, sharding.replicated(feed.mesh))
    return jax.jit(run, donate_argnums=0, out_shardings=out).lower(state, feed.data, batches).compile()
