"""What scripts/train_classifier.py runs: training a classifier of noised images, for guidance, in its own folder."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion.config.validation import validate
from diffusion.data.dataset_identity import identity, listed
from diffusion.data.source import require_labels
from diffusion.distributed import sharding
from diffusion.experiment import build, build_guidance
from diffusion.runtime import format_numbers
from diffusion.runtime.signals import Stop
from diffusion.training import classifier, loop, periodic_actions
from diffusion.training.metrics_log import Log, Progress
from diffusion.training.periodic_actions import Action
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.check_same_data import absolute, require_same_data
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import resume
from diffusion.workdir.run_config import Run, exists, lock, read_run, write_config

DRAWS = 8
"""Steps t at which each held-out image is classified: two in each quarter."""
HELD_OUT = 2048
"""Held-out images that are classified, at most."""


def run(
    config: ConfigDict, folder: Path, report: Callable[[str], None], stop: Stop | None = None, accept: bool = False
) -> list[float]:
    """Trains a classifier in a folder, or resumes the one in it; its accuracy on held-out images by quarter of 1..T.

    Of the config data, diffusion, net, optim and train are read; net describes a U-Net, whatever net.name is. Raises
    ValueError where the data have no labels, the levels do not suit their images, the folder belongs to another config
    or is in use; Diverged where the loss does not stay finite; Stopped, the state saved, when `stop` was requested. One
    process.
    """
    since, stop, c = time.monotonic(), stop or Stop(), config.train
    config = absolute(config)
    source, held_out = build.sources(config)
    data = identity(source, held_out)
    unet = config.copy_and_resolve_references()
    unet.net.name = "unet"  # a classifier is the half of one: its levels and heads must fit the images
    validate(unet, size=source.shape[0])
    require_labels(source, "config.data.name", "a classifier learns them: use data with labels (docs/data.md)")
    experiment = build.experiment(config, source.shape, source.classes)
    with ExitStack() as stack:
        owner = Run(config, source.shape, source.classes, data)
        owned = stack.enter_context(lock(folder))
        existing = exists(folder, owner, classifier=True)
        if existing:
            for line in require_same_data(read_run(folder), data, accept, labelled=True):
                report(f"data        {line}")
        devices = format_numbers.describe_devices(list(experiment.mesh.devices.flat))
        claim = partial(write_config, folder, owner, devices)
        report(f"folder      {folder}" + (" (existing run)" if existing else ""))

        def before_seal() -> None:
            writer.sync()
            claim()

        checkpoints = Checkpoints(folder / manifest.CLASSIFIER, c.keep, owner.content, claim=before_seal)
        stack.callback(checkpoints.close)
        initial = build_guidance.create_state(config, source.shape, source.classes)
        initial = jax.device_put(initial, sharding.replicated(experiment.mesh))
        stored = resume([checkpoints], initial, report)
        state = initial if stored is None else stored
        first = int(state.step)
        if stored is not None:
            report(f"checkpoint  resumed from step {first}")
            loop.require_steps_left(first, c.steps)
        report(f"network     {format_numbers.count(state.params):,} parameters, {source.classes} classes")
        report(f"classes     {listed(data.classes)}")

        problem, update = build_guidance.problem(config, source.classes, experiment.process), experiment.update()
        training = loop.Training(problem, update, experiment.feed(source), c.steps, c.steps_per_dispatch)
        if existing:
            claim()
        writer = stack.enter_context(closing(Writer(folder, first, owned)))
        progress = Progress(first, c.steps, c.batch_size, report, since)
        log, save = Log(c.log_every, update.guard, writer, progress), periodic_actions.save((checkpoints,), c.steps)
        periodic = [Action(c.checkpoint_every, save, first=True)]
        state = loop.train(training, state, log, periodic, (checkpoints,), stop)
        checkpoints.require(int(state.step), state)
    pixels, labels = held_out.read(np.arange(min(HELD_OUT, held_out.size)))
    key, batch = jax.random.key(config.seed), config.eval.batch_size
    return classifier.accuracy_by_quartile(problem, state.ema, key, pixels, labels, DRAWS, batch)
