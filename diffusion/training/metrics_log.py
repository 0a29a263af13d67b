"""The metrics of training between the device and the writer: read one interval late, saved where a run stops."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from diffusion.training import skipped_updates
from diffusion.training.expected_loss import LOSS, Watch
from diffusion.training.periodic_actions import tolerant
from diffusion.training.progress_line import Progress
from diffusion.training.skipped_updates import Guard
from diffusion.training.state import TrainState
from diffusion.training.step import HEALTH, Metrics
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.metrics_writer import Writer

WINDOW = "window"
"""The name, in a checkpoint's note, of the metrics that were not written yet."""


class Diverged(ValueError):
    """Too many updates in a row were not finite and were skipped: the state is the last good one."""


class Log:
    """Collects the metrics of each dispatch and writes their means every `period` steps (0: only at the last).

    An interval is read from the device when the next one ends, or by `flush`. `guard` says when a run has diverged;
    `watch` gets the step and the squared error of every interval.
    """

    def __init__(self, period: int, guard: Guard, writer: Writer, progress: Progress, watch: Watch | None = None):
        self.period, self.progress = period, progress
        self._watch = watch
        self._guard, self._writer = guard, writer
        self._names: tuple[str, ...] = ()
        self._stored: list[dict[str, Any]] = []
        self._window: list[Metrics] = []
        self._unread: tuple[int, list[Metrics]] | None = None

    def start(self, state: TrainState, streams: Sequence[Checkpoints]) -> None:
        """Restores the metrics that the checkpoint of state.step stores. Raises Diverged if the run had diverged."""
        self._names = skipped_updates.names(state.params)
        self._stop_if_diverged(jax.device_get(state.health))
        step = int(state.step)
        self._stored = next((window for s in streams if step and (window := s.note(step).get(WINDOW))), [])

    def add(self, step: int, metrics: Metrics) -> None:
        """Adds the metrics of the dispatch that ended at `step`."""
        self._window += [*_from_json(self._stored, metrics), metrics]
        self._stored = []
        self.progress.after_dispatch(step, metrics)

    def end_interval(self, step: int) -> None:
        """Ends an interval at `step` and writes the one before it."""
        before, self._unread, self._window = self._unread, (step, self._window), []
        self._write(before)

    def flush(self) -> None:
        """Writes the interval that ended last, if it is not written yet. Waits for the device."""
        unread, self._unread = self._unread, None
        self._write(unread)

    def note(self) -> dict[str, Any]:
        """What a checkpoint stores beside the state: the metrics since the last interval, exact, as JSON."""
        return {WINDOW: [*self._stored, *map(_to_json, jax.device_get(self._window))]}

    def _write(self, interval: tuple[int, list[Metrics]] | None) -> None:
        """Writes the means of an interval and the number of skipped updates, and shows the progress line.

        Warns where the last update was not finite. Raises Diverged where too many in a row were not.
        """
        if interval is None:
            return
        step, window = interval[0], jax.device_get(interval[1])
        counters = window[-1][HEALTH]
        totals = {name: np.sum([metrics[name] for metrics in window], axis=0) for name in window[0] if name != HEALTH}
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

    def _stop_if_diverged(self, counters: skipped_updates.Health) -> None:
        if counters.streak >= self._guard.patience:
            raise Diverged(
                f"{self._culprit(counters)}, the first of {self._guard.patience} in a row: training has diverged and "
                f"stops with the parameters of step {counters.since}, which are saved; start again with a lower "
                "optim.lr, or with optim.clip above 0, in another folder"
            )

    def _culprit(self, counters: skipped_updates.Health) -> str:
        """What was not finite, and when."""
        return f"{self._names[counters.culprit]} was not finite at step {counters.since + 1}"


def _to_json(metrics: Metrics) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(metrics)
    return {jax.tree_util.keystr(path): [str(leaf.dtype), leaf.tolist()] for path, leaf in leaves}


def _from_json(stored: list[dict[str, Any]], like: Metrics) -> list[Metrics]:
    """Metrics from JSON, in the structure of `like`; those with other names are left out."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    fitting = [metrics for metrics in stored if metrics.keys() == set(names)]
    return [structure.unflatten([np.array(one[name][1], one[name][0]) for name in names]) for one in fitting]
