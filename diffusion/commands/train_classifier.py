"""What scripts/train_classifier.py runs: training a classifier of noised images, for guidance, in its own folder."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion.commands.train import open_folder
from diffusion.config.config_dict import flatten
from diffusion.config.keys_with_legal_values import KEYS
from diffusion.data.dataset_identity import listed
from diffusion.distributed import sharding
from diffusion.experiment import build_guidance
from diffusion.runtime import format_numbers
from diffusion.runtime.signals import Stop
from diffusion.training import classifier, loop, periodic_actions
from diffusion.training.periodic_actions import Action
from diffusion.training.progress_lines_and_metrics import Log, Progress
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.check_same_data import absolute
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import resume

DRAWS = 8
"""Steps t at which each held-out image is classified: two in each quarter."""
UNREAD = ("data.augment", "train.accumulate", "train.keep_every", "train.keep_best")
"""Keys that change or spare something when a diffusion model is trained, and nothing when a classifier is."""
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
    with ExitStack() as stack:
        opened = open_folder(config, folder, accept, stack, report, classifier=True)
        experiment, source = opened.experiment, opened.source

        def before_seal() -> None:
            writer.sync()
            opened.claim()

        checkpoints = Checkpoints(folder / manifest.CLASSIFIER, c.keep, opened.owner.content, claim=before_seal)
        stack.callback(checkpoints.close)
        initial = build_guidance.create_state(config, source.shape, source.classes)
        initial = jax.device_put(initial, sharding.replicated(experiment.mesh))
        stored = resume([checkpoints], initial, report)
        state = initial if stored is None else stored
        first = int(state.step)
        if stored is not None:
            report(f"checkpoint  resumed from step {first}")
            loop.require_steps_left(first, c.steps)
            opened.claim()
        report(f"network     {format_numbers.count(state.params):,} parameters, {source.classes} classes")
        report(f"classes     {listed(opened.data.classes)}")
        flat = flatten(config)
        for key in (key for key in UNREAD if flat[key] != KEYS[key].default):
            report(f"remark      config.{key}: has no effect, as the training of a classifier does not read it")

        problem, update = build_guidance.problem(config, source.classes, experiment.process), experiment.update()
        training = loop.Training(problem, update, experiment.feed(source), c.steps, c.steps_per_dispatch)
        writer = stack.enter_context(closing(Writer(folder, first, opened.held or (lambda: None))))
        progress = Progress(first, c.steps, c.batch_size, report, since)
        log, save = Log(c.log_every, update.guard, writer, progress), periodic_actions.save((checkpoints,), c.steps)
        periodic = [Action(c.checkpoint_every, save, first=True)]
        state = loop.train(training, state, log, periodic, (checkpoints,), stop)
        checkpoints.require(int(state.step), state)
    pixels, labels = opened.held_out.read(np.arange(min(HELD_OUT, opened.held_out.size)))
    key, batch = jax.random.key(config.seed), config.eval.batch_size
    return classifier.accuracy_by_quartile(problem, state.ema, key, pixels, labels, DRAWS, batch)
