"""Training runs in a folder, with the periodic actions of scripts/train.py; likelihoods as result files."""

from contextlib import closing, nullcontext

import numpy as np
from ml_collections import ConfigDict

from diffusion.commands import evaluate
from diffusion.commands.train import periodic_actions
from diffusion.evaluation.measurement_protocol import Chain
from diffusion.runtime.signals import Stop
from diffusion.training import loop
from diffusion.training.progress_lines_and_metrics import Log, Progress
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints


def periods(steps, log=0, checkpoint=0, evaluate=0, sample=0, keep=0):
    """A section config.train with these periods alone."""
    values = dict(
        steps=steps,
        batch_size=8,
        steps_per_dispatch=1,
        log_every=log,
        checkpoint_every=checkpoint,
        eval_every=evaluate,
        sample_every=sample,
        keep_every=keep,
        keep_best=False,
    )
    return ConfigDict(values)


def black(params):  # noqa: ARG001
    """A preview that costs nothing."""
    return np.zeros((4, 4, 1), np.uint8)


def no_estimate(state):  # noqa: ARG001
    """An estimate without a number."""
    return {}


def train(folder, task, update, feed, initial, c, report, stop=None, preview=black, estimate=no_estimate):
    """The last state of a run from the newest checkpoint in the folder, or from `initial`; `c` is config.train."""
    stop = stop or Stop()
    with closing(RunCheckpoints(folder, c.steps)) as streams:
        state = streams.resume(initial, report) or initial
        first = int(state.step)
        with closing(Writer(folder, first)) as writer:
            log = Log(c.log_every, update.guard, writer, Progress(first, c.steps, c.batch_size, report))
            actions = periodic_actions(c, streams, writer, report, stop, estimate, preview)
            training = loop.Training(task, update, feed, c.steps, c.steps_per_dispatch)
            return loop.train(training, state, log, actions, (streams.rolling, streams.permanent), stop)


def evaluate_likelihood(kind, subject, source, n=None, progress=lambda done: None, batch_size=None, **chain):  # noqa: ARG005
    """What scripts/evaluate.py measures and writes of a likelihood on the first n images, by default all."""
    request = evaluate.Request(n=n, batch_size=batch_size, chain=Chain(**chain))
    plan = evaluate.Plan(request, (kind.name,), subject, {"test": source}, None, None, 0)
    (measured,) = evaluate.run(plan, lambda *_: nullcontext(progress))
    return measured
