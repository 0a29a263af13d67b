"""The loss and the accuracy of a classifier of noised images: cross-entropy on x_t ~ q(x_t | x_0), t uniform."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Array, Image, Labels, OneKey, Pixels, Time
from diffusion.core.forward_process import Process, q_sample
from diffusion.core.reverse_process import network_input, network_time
from diffusion.core.timesteps import uniform
from diffusion.data.transforms import random_flip, to_image
from diffusion.nets.classifier import Logits
from diffusion.training.state import Params, StepKeys
from diffusion.training.step import QUARTILES, Gradient, one


class Problem(NamedTuple):
    """What is learnt: p(y | x_t) for every t."""

    process: Process
    apply: Callable[[Params, Image, Array, OneKey | None], Logits]
    """apply(params, x, time, dropout_key) -> logits; in training mode where there is a key."""
    flip: bool = False

    def gradient(self, params: Params, timesteps: Any, keys: StepKeys, pixels: Pixels, labels: Labels) -> Gradient:
        """The gradient of the mean of -log p(y | x_t), in nats, with t uniform in 1..T.

        Dhariwal & Nichol 2021, section 4 and appendix H.
        """
        x_0 = to_image(pixels)
        if self.flip:
            x_0 = random_flip(keys.augment, x_0)
        t, _ = uniform(self.process.T).sample(keys.timesteps, timesteps, x_0.shape[0])
        x_t = q_sample(self.process, x_0, t, jax.random.normal(keys.noise, x_0.shape))

        def loss(params: Params) -> tuple[Array, Array]:
            log_p = log_probs(self, params, x_t, t, keys.dropout)
            return -of_labels(log_p, labels).mean(), (log_p.argmax(axis=1) == labels).mean()

        (value, accuracy), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return Gradient(grads, value, {"loss": one(value), "accuracy": one(accuracy)}, timesteps)


def log_probs(problem: Problem, params: Params, x_t: Image, t: Time, key: OneKey | None = None) -> Logits:
    """log p(y | x_t) of every class y, in nats. t in 1..T; the network takes x_t and t as a denoiser does."""
    x = network_input(problem.process, x_t, t)
    return jax.nn.log_softmax(problem.apply(params, x, network_time(problem.process, t), key))


def of_labels(logits: Logits, labels: Labels) -> Array:
    """The column of each row's label, [B]."""
    return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def quarters(T: int) -> list[tuple[int, int]]:
    """The first and the last step of each quarter of 1..T; without those that hold no step where T < 4."""
    ends = [-(-i * T // QUARTILES) for i in range(QUARTILES + 1)]
    return [(start + 1, stop) for start, stop in pairwise(ends) if start < stop]


def accuracy_by_quartile(
    problem: Problem, params: Params, key: OneKey, pixels: np.ndarray, labels: np.ndarray, draws: int, batch: int
) -> list[float]:
    """Share of right answers for t in each of `quarters`, from least noise to most, each image at `draws` steps.

    The t of an image are T / draws apart, and evenly spread over all images. `batch` noised images are classified at a
    time.
    """
    count, T = len(pixels) * draws, problem.process.T
    image, t = np.arange(count) % len(pixels), 1 + np.arange(count) * T // count

    @jax.jit
    def right(first: Array, params: Params, pixels: Pixels, labels: Labels, t: Time) -> Array:
        x_0 = to_image(pixels)
        x_t = q_sample(problem.process, x_0, t, jax.random.normal(jax.random.fold_in(key, first), x_0.shape))
        return log_probs(problem, params, x_t, t).argmax(axis=1) == labels

    found = np.zeros(count, bool)
    for first in range(0, count, batch):
        rows = np.arange(first, first + batch) % count  # the last batch is filled up
        part = right(first, params, pixels[image[rows]], labels[image[rows]], t[rows])
        found[first : first + batch] = np.asarray(part)[: count - first]
    return [float(found[(first <= t) & (t <= last)].mean()) for first, last in quarters(T)]
