"""A trace of a few training steps, for TensorBoard's profiler and for Perfetto (ui.perfetto.dev)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from diffusion.training.feed import Feed

FIRST, STEPS = 10, 5
"""The first steps compile and fill caches; a trace of more than a few steps is too large to view."""


def traced(feed: Feed, folder: Path, report: Callable[[str], None], first: int = FIRST, steps: int = STEPS) -> Feed:
    """A feed that traces the process from its batch `first` on, for `steps` batches, into `folder`.

    The loop takes one batch before each step. On an accelerator, which runs behind the host, the trace begins with
    steps that were dispatched before. A run that ends sooner leaves a shorter trace.
    """

    def batches(first_step: int) -> Iterator[Any]:
        tracing = False
        try:
            for i, batch in enumerate(feed.batches(first_step)):
                if i == first:
                    jax.profiler.start_trace(folder, create_perfetto_trace=True)
                    tracing = True
                if tracing and i == first + steps:
                    tracing = False
                    _stop(folder, report)
                yield batch
        finally:
            if tracing:
                _stop(folder, report)

    return feed._replace(batches=batches)


def _stop(folder: Path, report: Callable[[str], None]) -> None:
    jax.profiler.stop_trace()
    report(f"profile     {folder}: for tensorboard --logdir, or perfetto_trace.json.gz in it for ui.perfetto.dev")
