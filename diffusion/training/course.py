"""What happens between the dispatches of training: metrics, estimates, samples, checkpoints; and when."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from diffusion.runtime.errors import reason
from diffusion.runtime.signals import Stop
from diffusion.training.progress import Progress
from diffusion.training.state import Params, TrainState
from diffusion.training.step import Metrics
from diffusion.workdir.checkpoint import Checkpoints, shared
from diffusion.workdir.streams import Kept
from diffusion.workdir.writer import Writer

SCORE = "bits_per_dim"
"""The scalar by which the best checkpoint is told; the lower the better."""


class Plan(NamedTuple):
    """When things happen, in steps. A period of 0 means only at the end."""

    steps: int
    batch_size: int
    steps_per_dispatch: int
    log_every: int
    sample_every: int
    eval_every: int
    checkpoint_every: int
    keep_every: int = 0
    """0: no checkpoint is kept for its number."""
    keep_best: bool = False

    def next_stop(self, step: int) -> int:
        """The next step at which something happens."""
        periods = (self.log_every, self.sample_every, self.eval_every, self.checkpoint_every, self.keep_every)
        return min([self.steps, *((step // period + 1) * period for period in periods if period)])

    def together(self, step: int) -> int:
        """How many steps the dispatch at `step` takes: steps_per_dispatch, or one where something happens sooner."""
        return self.steps_per_dispatch if self.next_stop(step) - step >= self.steps_per_dispatch else 1

    def due(self, step: int, period: int) -> bool:
        """Whether an event of this period happens at `step`; everything happens at the last."""
        return step == self.steps or (period > 0 and step % period == 0)

    def keeps(self, step: int) -> bool:
        """Whether the checkpoint of this step is kept for its number."""
        return self.keep_every > 0 and step % self.keep_every == 0


class Hooks(NamedTuple):
    """What is done with the parameters while training."""

    preview: Callable[[Params], np.ndarray]
    """A grid of samples, uint8 [H, W, C], cheap enough to be drawn often."""
    evaluate: Callable[[TrainState], dict[str, float]]
    """Scalars, such as the averaged parameters' bound on held-out data."""


class Course:
    """A run between two dispatches: the metrics that are not written yet, and what is done with the state."""

    def __init__(
        self,
        plan: Plan,
        hooks: Hooks,
        writer: Writer,
        checkpoints: Checkpoints,
        kept: Kept | None,
        progress: Progress,
        stop: Stop,
        write: Callable[[int, list[Metrics]], None],
    ):
        self._plan, self._hooks, self._writer, self._progress, self._stop = plan, hooks, writer, progress, stop
        self._rolling, self._kept, self._write = checkpoints, kept, write
        self._window: list[Metrics] = []
        self._frozen: list[dict[str, Any]] = []
        self._unread: tuple[int, list[Metrics]] | None = None

    def begin(self, step: int, state: TrainState) -> None:
        """Saves the first state; or takes up the metrics of an interval cut in two, and does what was left undone."""
        if step == 0:
            self.save(0, state)
            return
        streams = [self._rolling, *([self._kept] if self._kept else [])]
        self._frozen = next((window for s in streams if (window := s.note(step).get("window"))), [])
        self._look(step, state, again=True)

    def after(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """What is due after a dispatch."""
        plan = self._plan
        if self._frozen:
            self._window = [*_thawed(self._frozen, metrics), *self._window]
            self._frozen = []
        self._window.append(metrics)
        self._progress.after_dispatch(step, metrics)
        self._tell()
        if plan.due(step, plan.log_every):
            before, self._unread, self._window = self._unread, (step, self._window), []
            self._report(before)
        others = (plan.eval_every, plan.sample_every, plan.checkpoint_every)
        if any(plan.due(step, period) for period in others) or plan.keeps(step):
            self.read()
            with self._progress.pause(metrics):
                if plan.due(step, plan.checkpoint_every):
                    self.save(step, state)
                self._look(step, state)

    def read(self) -> None:
        """Writes the metrics of the interval before."""
        unread, self._unread = self._unread, None
        self._report(unread)

    def _report(self, interval: tuple[int, list[Metrics]] | None) -> None:
        if interval is not None:
            with self._tolerant():
                self._write(*interval)

    def save(self, step: int, state: TrainState) -> None:
        """Starts a save of the rolling stream, the last one of both having ended; a last state is waited for."""
        if self._kept:
            self._kept.wait()
        self._rolling.save(step, state, self.note())
        if step == self._plan.steps and not self._rolling.saved(step):
            self._rolling.save(step, state, self.note())
            self._rolling.wait()
        self._tell()

    def note(self) -> dict[str, Any]:
        """What a resumed run must know beside the state: the metrics since the last line of them."""
        return {"window": [*self._frozen, *map(_frozen, jax.device_get(self._window))]}

    def _look(self, step: int, state: TrainState, again: bool = False) -> None:
        """Evaluates, draws and keeps what is due; `again`: only what was not done before a stop."""
        plan, writer, progress = self._plan, self._writer, self._progress
        values: dict[str, float] = {}
        if plan.due(step, plan.eval_every):
            values = writer.found(step, "eval/") if again else {}
            with self._tolerant():
                if not shared(len(values)):
                    with self._stop.interruptible():
                        values = self._hooks.evaluate(state)
                    writer.scalars(step, {f"eval/{name}": value for name, value in values.items()})
                    progress.say(f"step {step}: " + ", ".join(f"{name} {v:.4g}" for name, v in values.items()))
        score = values.get(SCORE, math.inf)
        every = plan.keeps(step)
        if self._kept and shared(every or (plan.keep_best and score < self._kept.best())):
            scored = {"score": score} if math.isfinite(score) else {}
            self._kept.save(step, state, {**self.note(), "every": every, **scored})
        if plan.due(step, plan.sample_every):
            self._sample(step, {"": state.ema, "_raw": state.params}, again)

    def _sample(self, step: int, weights: dict[str, Params], again: bool) -> None:
        """A grid from each kind of weights, by the ending of its file's name."""
        for ending, params in weights.items():
            name = f"step_{step:07d}{ending}"
            if again and shared(self._writer.drawn(name)):
                continue
            with self._tolerant():
                with self._stop.interruptible():
                    pixels = self._hooks.preview(params)
                path = self._writer.grid(step, name, pixels)
                if not ending:
                    self._progress.say(f"step {step}: samples in {path}")

    def _tell(self) -> None:
        for stream in (self._rolling, self._kept):
            for line in stream.news() if stream else []:
                self._progress.say(line)

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """A report that cannot be written must not end a run."""
        try:
            yield
        except OSError as error:
            self._progress.say(f"WARNING     a report could not be written ({reason(error)}); training goes on")


def _frozen(metrics: Metrics) -> dict[str, Any]:
    """Metrics as JSON, bit for bit."""
    leaves = jax.tree_util.tree_leaves_with_path(metrics)
    return {jax.tree_util.keystr(path): [str(leaf.dtype), leaf.tolist()] for path, leaf in leaves}


def _thawed(frozen: list[dict[str, Any]], like: Metrics) -> list[Metrics]:
    """Metrics from JSON; those with other names than `like` has are left out."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    known = [one for one in frozen if one.keys() == set(names)]
    return [structure.unflatten([np.array(one[name][1], one[name][0]) for name in names]) for one in known]
