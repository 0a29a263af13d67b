"""A run that trains a classifier on noised images, for guidance: the folder of a run, with classifier/ in it."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion.config.validation import validate
from diffusion.core.types import Array
from diffusion.data.source import Source
from diffusion.distributed import sharding
from diffusion.experiment import build, guidance
from diffusion.experiment.registry import adam
from diffusion.runtime import text
from diffusion.runtime.signals import Stop
from diffusion.training import classifier
from diffusion.training.classifier import Problem
from diffusion.training.progress import Progress
from diffusion.training.state import Params
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.run import Run, lock, open_run

DRAWS = 8
"""Steps t at which each held-out image is classified: two in each quarter."""
MOST = 2048
"""Held-out images that are classified."""


def run(config: ConfigDict, folder: Path, say: Callable[[str], None], stop: Stop | None = None) -> list[float]:
    """Trains a classifier in a folder, or goes on with the one there; returns `held_out_accuracy`.

    Of a config data, diffusion, net, optim and train are read. Raises ValueError where the data have no labels, the
    folder belongs to something else or is in use; Stopped, the state saved, when `stop` was asked for. One process.
    """
    stop = stop or Stop()
    source, held_out = build.sources(config)
    validate(config, size=source.shape[0])
    if not source.classes:
        raise ValueError(f"config.data.name: {source.name} has no labels for a classifier to learn; use a set that has")
    if (folder / "checkpoints").exists():
        raise ValueError(f"{folder} holds a run of scripts/train.py; give the classifier another --workdir")
    ours = build.experiment(config, source.shape, source.classes)
    devices = text.describe_devices(list(ours.mesh.devices.flat))
    c = config.train
    with ExitStack() as stack:
        stack.enter_context(lock(folder))
        made = Run(config, source.shape, source.classes)
        known = open_run(folder, made, devices)
        say(f"folder      {folder}" + (" (taken up again)" if known else ""))
        store = stack.enter_context(closing(Checkpoints(folder / guidance.FOLDER, c.keep, about=made.content)))
        everywhere = sharding.replicated(ours.mesh)
        state = jax.device_put(guidance.create_state(config, source.shape, source.classes), everywhere)
        if (last := store.latest()) is not None:
            state = store.restore(last, state)
            say(f"checkpoint  goes on from step {last}")
        say(f"network     {text.count(state.params):,} parameters, {source.classes} classes")

        feed, problem = ours.feed(source), guidance.problem(config, source.classes, ours.process)
        rest = (adam(config.optim), config.optim.ema_decay, config.optim.ema_warmup, feed.gather)
        train = jax.jit(partial(classifier.train_step, problem, *rest), donate_argnums=0, out_shardings=everywhere)
        step, window = int(state.step), []
        stack.enter_context(stop.deferred())
        batches = stack.enter_context(closing(feed.batches(step)))
        progress = stack.enter_context(closing(Progress(step, c.steps, c.batch_size, say)))
        while step < c.steps:
            if stop.agreed():
                store.require(step, state)
                raise stop.stopped()
            batch = jax.tree.map(lambda x: x[0], feed.stack(list(islice(batches, 1))))
            state, found = train(state, feed.data, batch)
            step += 1
            window.append(found)
            progress.after_dispatch(step, found)
            if step % c.log_every == 0 or step == c.steps:
                loss, right = np.mean(jax.device_get(window), axis=0)
                window = []
                progress.say(f"step {step}: loss {loss:.4f} nats, {right:.1%} right")
            if c.checkpoint_every and step % c.checkpoint_every == 0:
                store.save(step, state)
        store.require(step, state)
        return held_out_accuracy(problem, state.ema, held_out, config.seed)


def held_out_accuracy(problem: Problem, params: Params, held_out: Source, seed: int) -> list[float]:
    """Shares of right answers on held-out images for t in each quarter of 1..T, from least noise to most."""
    pixels, labels = held_out.read(np.arange(min(MOST, held_out.size)))

    @jax.jit
    def measure(params: Params, pixels: Array, labels: Array) -> Array:
        return classifier.right_by_quartile(problem, params, jax.random.key(seed), pixels, labels, DRAWS)

    found = measure(params, jnp.asarray(pixels), jnp.asarray(labels, jnp.int32))
    return [float(share) for share in found]
