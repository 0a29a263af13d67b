"""What is done between two dispatches of training: records of a period and what to do, which a caller combines."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from diffusion.distributed.agreement_between_processes import shared
from diffusion.runtime.short_error_text import reason
from diffusion.runtime.signals import Stop
from diffusion.training.state import Params, TrainState
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import PermanentCheckpoints

SCORE = "bits_per_dim"
"""The scalar that ranks checkpoints; the lowest is best."""

Report = Callable[[str], None]
"""Prints one line of the report."""


class Moment(NamedTuple):
    """A step between two dispatches."""

    step: int
    state: TrainState
    note: Mapping[str, Any]
    """What a checkpoint of this step stores beside the state: the metrics that are not written yet."""
    resumed: bool = False
    """Whether the run starts here; a stopped process may have completed some of the actions of this step."""


class Action(NamedTuple):
    """Something done every `period` steps."""

    period: int
    """0: only at the last step."""
    act: Callable[[Moment], None]
    first: bool = False
    """Whether it is done at step 0."""
    last: bool = True
    """Whether it is done at the last step, whatever the period."""

    def due(self, step: int, steps: int) -> bool:
        """Whether it is done at `step` of a run of `steps`."""
        if step == 0:
            return self.first
        return due(step, self.period) or (self.last and step == steps)


def due(step: int, period: int) -> bool:
    """Whether `step` is a multiple of a period that is not 0."""
    return period > 0 and step % period == 0


def perform(actions: Sequence[Action], moment: Moment, report: Report) -> None:
    """Performs the actions in their order; one that cannot write (OSError) is reported and training continues."""
    for action in actions:
        with tolerant(report):
            action.act(moment)


@contextmanager
def tolerant(report: Report) -> Iterator[None]:
    """Reports an OSError inside instead of raising it."""
    try:
        yield
    except OSError as error:
        report(f"WARNING     a report could not be written ({reason(error)}); training continues")


def save(streams: Sequence[Checkpoints], steps: int) -> Callable[[Moment], None]:
    """Starts saving to the first of the streams, once earlier saves have ended; that of the last step is waited for."""
    rolling, *others = streams

    def act(moment: Moment) -> None:
        for stream in others:
            stream.wait()
        rolling.save(moment.step, moment.state, moment.note)
        if moment.step == steps and not rolling.saved(moment.step):
            rolling.save(moment.step, moment.state, moment.note)
            rolling.wait()

    return act


class Estimate:
    """Evaluates the state and writes the scalars; remembers the score for `keep`."""

    def __init__(self, evaluate: Callable[[TrainState], dict[str, float]], writer: Writer, report: Report, stop: Stop):
        self._evaluate, self._writer, self._report, self._stop = evaluate, writer, report, stop
        self._latest = (0, math.inf)

    def __call__(self, moment: Moment) -> None:
        values = self._writer.stored(moment.step, "eval/") if moment.resumed else {}
        if shared(len(values)):
            self._latest = (moment.step, values.get(SCORE, math.inf))
            return
        with self._stop.interruptible():
            values = self._evaluate(moment.state)
        self._latest = (moment.step, values.get(SCORE, math.inf))
        self._writer.scalars(moment.step, {f"eval/{name}": value for name, value in values.items()})
        self._report(f"step {moment.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def score(self, step: int) -> float:
        """The score measured at `step`; infinity where none was."""
        return self._latest[1] if self._latest[0] == step else math.inf


def keep(
    permanent: PermanentCheckpoints, estimate: Estimate, period: int, only_best: bool = False
) -> Callable[[Moment], None]:
    """Saves a permanent checkpoint, with its score if it has one; `period` marks those saved for their number.

    With `only_best` just where the score is lower than that of every permanent checkpoint.
    """

    def act(moment: Moment) -> None:
        score = estimate.score(moment.step)
        if only_best and not shared(score < permanent.best()):
            return
        scored = {"score": score} if math.isfinite(score) else {}
        permanent.save(moment.step, moment.state, {**moment.note, "every": due(moment.step, period), **scored})

    return act


def draw(
    preview: Callable[[Params], np.ndarray], writer: Writer, report: Report, stop: Stop
) -> Callable[[Moment], None]:
    """Writes grids of samples from averaged and from raw weights: samples/step_<step>.png and step_<step>_raw.png."""

    def act(moment: Moment) -> None:
        for suffix, params in (("", moment.state.ema), ("_raw", moment.state.params)):
            name = f"step_{moment.step:07d}{suffix}"
            if moment.resumed and shared(writer.has_grid(name)):
                continue
            with stop.interruptible():
                pixels = preview(params)
            with tolerant(report):  # process 0 alone writes, and must compute the next grid with the others
                report(f"step {moment.step}: samples in {writer.grid(moment.step, name, pixels)}")

    return act
