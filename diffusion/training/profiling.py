"""A trace of a few training steps, for TensorBoard's profiler and for Perfetto (ui.perfetto.dev)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from diffusion.runtime.bucket_path import Bucket
from diffusion.training.batch_feed import Feed

FIRST, STEPS = 10, 5
"""The first steps compile and fill caches; a trace of more than a few steps is too large to view."""


def traced(feed: Feed, folder: Path, report: Callable[[str], None], first: int = FIRST, steps: int = STEPS) -> Feed:
    """A feed that traces the process from its batch `first` on, for `steps` batches, into `folder`.

    The loop takes one batch before each step. On an accelerator, which runs behind the host, the trace begins with
    steps that were dispatched before. A run that ends sooner leaves a shorter trace. Raises ValueError for a bucket.
    """
    if isinstance(folder, Bucket):
        raise ValueError(f"--profile cannot write to {folder}: profile a short run in a local --workdir")
    line = f"profile     {folder}: for tensorboard --logdir, or perfetto_trace.json.gz in it for ui.perfetto.dev"

    def batches(first_step: int) -> Iterator[Any]:
        with ExitStack() as trace:
            for i, batch in enumerate(feed.batches(first_step)):
                if i == first:
                    trace.callback(report, line)  # after the trace is written
                    trace.enter_context(jax.profiler.trace(folder, create_perfetto_trace=True))
                if i == first + steps:
                    trace.close()
                yield batch

    return feed._replace(batches=batches)
