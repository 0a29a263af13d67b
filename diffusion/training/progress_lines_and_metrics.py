"""The metrics of training, from the device to the writer and to progress lines; checkpoints store unwritten ones."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from diffusion.runtime import format_numbers
from diffusion.training.compare_with_recorded_curve import LOSS, Watch
from diffusion.training.periodic_actions import tolerant
from diffusion.training.skipped_updates import Guard, Health
from diffusion.training.state import TrainState
from diffusion.training.step import HEALTH, Metrics
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer

TOTALS = "totals"
"""The name, in a checkpoint's note, of the sums of the metrics that were not written yet."""

TIMED_DISPATCHES = 3
"""Dispatches after the first (which compiles) that give the first estimate of the remaining time."""


class Diverged(ValueError):
    """Too many updates in a row were not finite and were skipped: the state is the last good one."""


class Progress:
    """Speed and time left of a run from step `first` to step `last`; `since` is its start by time.monotonic()."""

    def __init__(
        self, first: int, last: int, batch_size: int, report: Callable[[str], None], since: float | None = None
    ):
        self.report = report
        self._last, self._batch_size = last, batch_size
        self._dispatches, self._step = 0, first
        self._start = time.monotonic() if since is None else since
        self._mark = (first, self._start)
        self.images_per_second = 0.0

    def after_dispatch(self, step: int, result: Any) -> None:
        """Called after each dispatch; waits for `result` only in the first few, to time them."""
        self._dispatches, self._step = self._dispatches + 1, step
        if self._dispatches == 1:
            jax.block_until_ready(result)
            now = time.monotonic()
            self.report(f"first step  after {format_numbers.duration(now - self._start)}, compilation included")
            self._mark = (step, now)
        elif self._dispatches == 1 + TIMED_DISPATCHES:
            jax.block_until_ready(result)
            left = self._measure()
            self.report(
                f"speed       {format_numbers.rate(self.images_per_second)}, about {format_numbers.duration(left)} left"
            )

    def show(self, step: int, loss: float) -> None:
        """The progress line of an interval that ended at `step`; speed and remaining time are the current ones."""
        left = self._measure()
        shown = [f"loss {loss:.4f}"]
        if self.images_per_second:  # not before a second dispatch
            shown += [format_numbers.rate(self.images_per_second), f"{format_numbers.duration(left)} left"]
        self.report(f"step {step}/{self._last}  {'  '.join(shown)}")

    @contextmanager
    def pause(self, result: Any) -> Iterator[None]:
        """Waits for `result`; time spent inside does not count in the speed."""
        jax.block_until_ready(result)
        start = time.monotonic()
        yield
        self._mark = (self._mark[0], self._mark[1] + time.monotonic() - start)

    def _measure(self) -> float:
        """The seconds left; updates the speed from the steps made since the last call."""
        now = time.monotonic()
        if self._step > self._mark[0]:
            self.images_per_second = (self._step - self._mark[0]) * self._batch_size / max(now - self._mark[1], 1e-9)
            self._mark = (self._step, now)
        return (self._last - self._step) * self._batch_size / max(self.images_per_second, 1e-9)


class Log:
    """Collects the metrics of each dispatch and writes their means every `period` steps (0: only at the last).

    `guard` says when a run has diverged; `watch` gets the step and the squared error of every interval.
    """

    def __init__(self, period: int, guard: Guard, writer: Writer, progress: Progress, watch: Watch | None = None):
        self.period, self.progress = period, progress
        self._watch = watch
        self._guard, self._writer = guard, writer
        self._stored: dict[str, np.ndarray] = {}
        self._window: list[Metrics] = []

    def start(self, state: TrainState, streams: Sequence[Checkpoints]) -> None:
        """Restores the metrics that the checkpoint of state.step stores. Raises Diverged if the run had diverged."""
        self._stop_if_diverged(jax.device_get(state.health))
        step = int(state.step)
        stored = next((totals for s in streams if step and (totals := s.note(step).get(TOTALS))), {})
        self._stored = {name: np.array(total, np.float32) for name, total in stored.items()}

    def add(self, step: int, metrics: Metrics) -> None:
        """Adds the metrics of the dispatch that ended at `step`; their copy from the device starts."""
        jax.tree.map(lambda x: x.copy_to_host_async(), metrics)
        self._window.append(metrics)
        self.progress.after_dispatch(step, metrics)

    def end_interval(self, step: int) -> None:
        """Writes the means of the interval that ends at `step` and reports progress. Waits for the device.

        Warns where the last update was not finite. Raises Diverged where too many in a row were not.
        """
        counters, totals = jax.device_get(self._window[-1][HEALTH]), self._totals()
        self._window, self._stored = [], {}
        values = {f"train/{name}": float(total / n) for name, (total, n) in totals.items() if n > 0}
        self.progress.show(step, values.get("train/loss", math.nan))
        speed = self.progress.images_per_second
        values |= {"train/skipped": float(counters.skipped), **({"perf/images_per_second": speed} if speed else {})}
        with tolerant(self.progress.report):
            self._writer.scalars(step, values)
        if self._watch and (error := values.get(f"train/{LOSS}")) is not None:
            self._watch(step, error)
        self._stop_if_diverged(counters)
        if counters.streak:
            self.progress.report(
                f"WARNING     {self._culprit(counters)}; updates are skipped, and {self._guard.patience} in a row end "
                "the run"
            )

    def note(self) -> dict[str, Any]:
        """What a checkpoint stores beside the state: the sums since the last interval; exact, as they are float32."""
        return {TOTALS: {name: total.tolist() for name, total in self._totals().items()}}

    def _totals(self) -> dict[str, np.ndarray]:
        """name -> [sum, count] since the last interval, added up step by step, whether or not the run was resumed."""
        totals = dict(self._stored)
        for metrics in jax.device_get(self._window):
            for name in metrics.keys() - {HEALTH}:
                totals[name] = totals.get(name, np.float32(0)) + metrics[name]
        return dict(sorted(totals.items()))

    def _stop_if_diverged(self, counters: Health) -> None:
        if counters.streak >= self._guard.patience:
            raise Diverged(
                f"{self._culprit(counters)}, the first of {self._guard.patience} in a row: training has diverged and "
                f"stops with the parameters of step {counters.since}, which are saved; start again with a lower "
                "optim.lr, or with optim.clip above 0, in another folder"
            )

    def _culprit(self, counters: Health) -> str:
        """What was not finite, and when."""
        return f"the {'gradient' if counters.culprit else 'loss'} was not finite at step {counters.since + 1}"
