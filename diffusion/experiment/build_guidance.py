"""How samples of a run are guided, as config.sample says: not at all, by hidden labels, or by a run's classifier."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten
from diffusion.core.array_types import Array, Image, Labels, OneKey, PerExample, Time
from diffusion.core.forward_process import Process
from diffusion.core.reverse_process import Denoiser
from diffusion.core.timesteps import uniform
from diffusion.distributed import sharding
from diffusion.experiment.layers_by_platform import adam, layers
from diffusion.experiment.registry_of_samplers_and_schedules import built, timed
from diffusion.nets.classifier import Classifier, Logits
from diffusion.nets.network_interface import Net
from diffusion.runtime.paths import expanded
from diffusion.sampling.guidance import Interval, Labelled, Scale, classifier_guided, label_guided
from diffusion.training import classifier, state
from diffusion.training.classifier import Problem
from diffusion.training.state import Params, TrainState
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.kept_and_resumed_checkpoints import resume
from diffusion.workdir.run_config import read_run

OWN = frozenset({"diffusion.parameterization", "diffusion.variance"})
"""What a classifier and the model that it guides need not share of config.diffusion."""


class Learnt(NamedTuple):
    """A trained classifier of noised images."""

    problem: Problem
    params: Params
    classes: int

    def log_prob(self, labels: Labels, x_t: Image, t: Time) -> PerExample:
        """log p(label | x_t), in nats."""
        return classifier.of_labels(classifier.log_probs(self.problem, self.params, x_t, t), labels)


class Guide(NamedTuple):
    """How samples are guided: by a classifier, by a network that was also trained without labels, or not at all."""

    classes: int = 0
    """Labels that guidance needs are 0..classes-1; 0: none beyond those of the network."""
    scale: Scale = 0.0
    interval: Interval | None = None
    learnt: Learnt | None = None
    """The classifier; None: a network guides itself, its null label is `classes`."""
    null: int | None = None
    """With a classifier: the label that the network gets in place of the true ones."""

    def denoiser(self, denoise: Labelled, labels: Labels) -> Denoiser:
        """The denoiser that samples with these labels follow."""
        if self.classes and not self.learnt:
            return label_guided(denoise, labels, self.classes, self.scale, self.interval)
        shown = labels if self.null is None else jnp.full_like(labels, self.null)
        plain: Denoiser = lambda x_t, t: denoise(x_t, t, shown)  # noqa: E731
        if not self.learnt:
            return plain
        log_prob = partial(self.learnt.log_prob, labels)
        return classifier_guided(self.learnt.problem.process, plain, log_prob, self.scale, self.interval)


UNGUIDED = Guide()


def of(config: ConfigDict, shape: tuple[int, int, int], classes: int, net: Net, process: Process) -> Guide:
    """The guide of a validated config. Raises ValueError where config.sample.classifier cannot guide this run."""
    c = config.sample
    if not c.guidance:
        return UNGUIDED
    if c.classifier:
        learnt = load(expanded(c.classifier), config, shape, classes, process)
        return Guide(learnt.classes, c.guidance, steps(config), learnt)
    return Guide(net.classes, c.guidance, steps(config))


def steps(config: ConfigDict) -> Interval | None:
    """The steps t of the base process in which guidance acts; None for all of them."""
    c, T = config.sample, config.diffusion.T
    whole = (c.guidance_from, c.guidance_to) == (0.0, 1.0)
    return None if whole else (round(c.guidance_from * T), round(c.guidance_to * T))


def problem(config: ConfigDict, classes: int, process: Process) -> Problem:
    """What the classifier of a config learns, on the steps of `process`."""
    net = built(Classifier, config.net, classes=classes)

    def apply(params: Params, x: Image, time: Array, key: OneKey | None) -> Logits:
        mode = {} if key is None else {"train": True, "rngs": {"dropout": key}}
        with layers(config, sharding.make_mesh(), key is not None):
            return net.apply({"params": params}, x, time, **mode)  # pyright: ignore[reportReturnType]

    return Problem(timed(config, process), apply, config.data.flip)


def create_state(config: ConfigDict, shape: tuple[int, int, int], classes: int) -> TrainState:
    """The state of a classifier before the first update."""

    @jax.jit
    def make(seed: Array) -> TrainState:
        init_key, train_key = jax.random.split(jax.random.key(seed))
        net = built(Classifier, config.net, classes=classes)
        params = net.init(init_key, jnp.zeros((1, *shape)), jnp.zeros(1))["params"]
        return state.create(params, adam(config.optim), uniform(config.diffusion.T), train_key)

    return make(jnp.uint32(config.seed))


def load(folder: Path, config: ConfigDict, shape: tuple[int, int, int], classes: int, process: Process) -> Learnt:
    """The classifier of a run of scripts/train_classifier.py, averaged weights, to guide the model of `config`.

    Its parameters are constants of the programs that use them: beside the network that it guides it is small. Raises
    ValueError where the run has no classifier, and where it was trained for other images, classes or another process.
    """
    checkpoints = Checkpoints(folder / manifest.CLASSIFIER)
    if not checkpoints.steps():
        raise ValueError(
            f"config.sample.classifier: {folder} holds no classifier; give the folder of a run of "
            "scripts/train_classifier.py, or train one there"
        )
    run = read_run(folder)
    needed = {**_levels(config), "the shape of the data": shape, "its classes": classes}
    trained = {**_levels(run.config), "the shape of the data": run.shape, "its classes": run.classes}
    different = [
        f"{key} is {trained[key]!r} instead of {needed[key]!r}" for key in needed if trained[key] != needed[key]
    ]
    if different:
        raise ValueError(
            f"config.sample.classifier: {folder} was trained for another model: {'; '.join(different)}; train one for "
            "this model with scripts/train_classifier.py"
        )
    like = create_state(run.config, run.shape, run.classes)
    restored: Any = resume([checkpoints], like, lambda line: warnings.warn(line, stacklevel=2))
    return Learnt(problem(run.config, run.classes, process), jax.device_get(restored.ema), run.classes)


def _levels(config: ConfigDict) -> dict[str, object]:
    return {key: value for key, value in flatten(config).items() if key.startswith("diffusion.") and key not in OWN}
