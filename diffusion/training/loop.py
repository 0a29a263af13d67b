"""The training loop: dispatch, log one interval late, sample, evaluate, save."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from diffusion.training.checkpoint import Checkpoints
from diffusion.training.feed import Feed
from diffusion.training.metrics import Writer
from diffusion.training.progress import Progress
from diffusion.training.state import Params, TrainState
from diffusion.training.step import Metrics, Task, Update, train_steps


class Plan(NamedTuple):
    """When things happen, in steps. A period of 0 means only at the end."""

    steps: int
    batch_size: int
    steps_per_dispatch: int
    log_every: int
    sample_every: int
    eval_every: int
    checkpoint_every: int

    def next_stop(self, step: int) -> int:
        """The next step at which something happens."""
        periods = (self.log_every, self.sample_every, self.eval_every, self.checkpoint_every)
        return min([self.steps, *((step // period + 1) * period for period in periods if period)])

    def due(self, step: int, period: int) -> bool:
        """Whether an event of this period happens at `step`; everything happens at the last."""
        return step == self.steps or (period > 0 and step % period == 0)


class Hooks(NamedTuple):
    """What is done with the parameters while training."""

    preview: Callable[[Params], np.ndarray]
    """A grid of samples, uint8 [H, W, C], cheap enough to be drawn often."""
    evaluate: Callable[[TrainState], dict[str, float]]
    """Scalars, such as the averaged parameters' bound on held-out data."""


class Diverged(ValueError):
    """The loss did not stay finite: the parameters are lost, and every later step would be too."""


def compile_steps(task: Task, update: Update, feed: Feed, state: TrainState, batches: Any) -> Any:
    """train_steps compiled for the shapes of its arguments; the state is donated and stays where it is placed."""

    def run(state: TrainState, data: Any, batches: Any) -> tuple[TrainState, Metrics]:
        return train_steps(task, update, feed.gather, state, data, batches)

    places = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(run, donate_argnums=0, out_shardings=(places, None)).lower(state, feed.data, batches).compile()


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
    compiled: Callable[[Any], None] = lambda program: None,  # noqa: ARG005
) -> TrainState:
    """Runs from state.step to plan.steps and returns the last state; the one given is donated.

    Saves at step 0, every checkpoint_every steps and at the end. The metrics of an interval are read from the device
    after the next interval has been dispatched, so that the device does not wait for the host. `compiled` is shown the
    compiled program of the first dispatch. Raises Diverged when the mean loss of an interval is not finite.
    """
    step = int(state.step)
    if step == 0:
        checkpoints.save(0, state)
    progress = Progress(step, plan.steps, plan.batch_size, say)
    batches = feed.batches(step)
    programs: dict[int, Any] = {}
    window: list[Metrics] = []
    unread: tuple[int, list[Metrics]] | None = None

    def read() -> None:
        if unread is not None:
            _write(*unread, writer, progress)

    while step < plan.steps:
        k = plan.steps_per_dispatch if plan.next_stop(step) - step >= plan.steps_per_dispatch else 1
        batch = feed.stack([next(batches) for _ in range(k)])
        if k not in programs:
            programs[k] = compile_steps(task, update, feed, state, batch)
            if len(programs) == 1:
                compiled(programs[k])
        state, metrics = programs[k](state, feed.data, batch)
        step += k
        window.append(metrics)
        progress.after_dispatch(step, metrics)
        if plan.due(step, plan.log_every):
            read()
            unread, window = (step, window), []
        save, evaluate, sample = (
            plan.due(step, period) for period in (plan.checkpoint_every, plan.eval_every, plan.sample_every)
        )
        if save or evaluate or sample:
            read()
            unread = None
            with progress.pause(metrics):
                if save:
                    checkpoints.save(step, state)
                if evaluate:
                    values = hooks.evaluate(state)
                    writer.scalars(step, {f"eval/{name}": value for name, value in values.items()})
                    progress.say(f"step {step}: " + ", ".join(f"{name} {v:.4g}" for name, v in values.items()))
                if sample:
                    path = writer.grid(step, f"step_{step:07d}", hooks.preview(state.ema))
                    writer.grid(step, f"step_{step:07d}_raw", hooks.preview(state.params))
                    progress.say(f"step {step}: samples in {path}")
    progress.close()
    return state


def _write(step: int, window: list[Metrics], writer: Writer, progress: Progress) -> None:
    """Means of an interval, to the writer and the progress line."""
    total = jax.tree.map(lambda *m: np.sum(m, axis=0), *jax.device_get(window))
    values = {f"train/{name}": float(s / n) for name, (s, n) in total.items() if n > 0}
    progress.show(step, values["train/loss"])
    writer.scalars(step, {**values, "perf/images_per_second": progress.images_per_second})
    if not math.isfinite(values["train/loss"]):
        raise Diverged(
            f"the loss is {values['train/loss']} before step {step}: training has diverged and cannot go on; "
            "start again with a lower optim.lr, or with optim.clip above 0"
        )
