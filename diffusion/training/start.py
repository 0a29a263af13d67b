"""Before the first step: state and program are made by another thread, while Python traces what comes next.

Reading a compiled program, compiling one and computing the first state need no Python; tracing does.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import jax

from diffusion.training import loop
from diffusion.training.course import Plan
from diffusion.training.feed import Feed
from diffusion.training.state import TrainState
from diffusion.training.step import Task, Update

Begin = Callable[[Callable[[], Any]], Callable[[], Any]]


class Start(NamedTuple):
    """What the loop begins with; each is waited for where it is asked for."""

    state: Callable[[], TrainState]
    programs: Callable[[], dict[int, Any]]
    """The program of the first dispatch, by the number of its steps."""


@contextmanager
def start(
    task: Task, update: Update, feed: Feed, plan: Plan, like: TrainState, make: Callable[[], TrainState], step: int
) -> Iterator[Start]:
    """Begins make(), and the training step for states like its result (arrays or ShapeDtypeStructs), at `step`.

    Returns once the step is traced. Within the block the rest is under way; it ends when that has. Where no step is
    left there is no program.
    """
    with aside() as begin:
        state, k = begin(make), plan.together(step)
        if step >= plan.steps:
            yield Start(state, dict)
            return
        with closing(feed.batches(step)) as batches:
            batch = feed.stack([next(batches) for _ in range(k)])
        compiled = begin(loop.lower_steps(task, update, feed, like, batch).compile)
        yield Start(state, lambda: {k: compiled()})


@contextmanager
def aside() -> Iterator[Begin]:
    """begin(work) has work done by another thread, in the order given; what it returns waits for the result.

    With several processes the work is done at once, so that all of them do everything in the same order.
    """
    if jax.process_count() > 1:
        yield _now
        return
    with ThreadPoolExecutor(1, "start") as thread:
        yield lambda work: thread.submit(work).result


def _now(work: Callable[[], Any]) -> Callable[[], Any]:
    result = work()
    return lambda: result
