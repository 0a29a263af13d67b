"""Training of a classifier on noised images: cross-entropy on x_t ~ q(x_t | x_0), t uniform."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffusion.core.denoiser import network_input, network_time
from diffusion.core.process import Process, q_sample
from diffusion.core.types import Array, Image, Labels, OneKey, Pixels, Time
from diffusion.data.transforms import random_flip, to_image
from diffusion.nets.classifier import Logits
from diffusion.training import ema
from diffusion.training.optimizer import Optimizer
from diffusion.training.state import Params, step_keys
from diffusion.training.step import QUARTILES, Gather


class Problem(NamedTuple):
    """What is learnt: p(y | x_t) for every t."""

    process: Process
    apply: Callable[[Params, Image, Array, OneKey | None], Logits]
    """apply(params, x, time, dropout_key) -> logits; in training mode where there is a key."""
    time_scale: float = 1.0
    flip: bool = False


class State(NamedTuple):
    """The state of training after `step` steps."""

    step: Array
    params: Params
    ema: Params
    opt_state: optax.OptState
    key: OneKey
    """Root of all random numbers; step k uses fold_in(key, k)."""


def create(params: Params, optimizer: optax.GradientTransformation, key: OneKey) -> State:
    """The state before the first update."""
    return State(jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimizer.init(params), key)


def log_probs(problem: Problem, params: Params, x_t: Image, t: Time, key: OneKey | None = None) -> Logits:
    """log p(y | x_t) of every class y, in nats. t in 1..T; the network is given x_t and t as a denoiser is."""
    given = network_input(problem.process, x_t, t)
    return jax.nn.log_softmax(problem.apply(params, given, network_time(t, problem.time_scale), key))


def of_labels(found: Logits, labels: Labels) -> Array:
    """The column of each row's label, [B]."""
    return jnp.take_along_axis(found, labels[:, None], axis=1)[:, 0]


def train_step(
    problem: Problem,
    optimizer: Optimizer,
    ema_decay: float,
    ema_warmup: bool,
    gather: Gather,
    state: State,
    data: Any,
    batch: Any,
) -> tuple[State, Array]:
    """One gradient step on -log p(y | x_t), in nats; its mean and the share of right answers, [2].

    x_t ~ q(x_t | x_0) with t uniform in 1..T. Dhariwal & Nichol 2021, section 4 and appendix H. All random numbers come
    from fold_in(key, step), for the whole batch.
    """
    pixels, labels = gather(data, batch)
    keys = step_keys(state.key, state.step)
    x_0 = to_image(pixels)
    if problem.flip:
        x_0 = random_flip(keys.flip, x_0)
    t = jax.random.randint(keys.timesteps, (x_0.shape[0],), 1, problem.process.T + 1)
    x_t = q_sample(problem.process, x_0, t, jax.random.normal(keys.noise, x_0.shape))

    def loss(params: Params) -> tuple[Array, Array]:
        found = log_probs(problem, params, x_t, t, keys.dropout)
        return -of_labels(found, labels).mean(), (found.argmax(axis=1) == labels).mean()

    (value, right), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = ema.update(state.ema, params, ema.decay(state.step, ema_decay, ema_warmup))
    return State(state.step + 1, params, average, opt_state, state.key), jnp.stack([value, right])


def right_by_quartile(problem: Problem, params: Params, key: OneKey, pixels: Pixels, labels: Labels, n: int) -> Array:
    """[4]: share of right answers for t in each quarter of 1..T, each image at n steps.

    The t of an image are T / n apart, and evenly spread over all.
    """
    count = pixels.shape[0] * n
    x_0, wanted = jnp.tile(to_image(pixels), (n, 1, 1, 1)), jnp.tile(labels, n)
    t = 1 + (jnp.arange(count) * problem.process.T) // count
    x_t = q_sample(problem.process, x_0, t, jax.random.normal(key, x_0.shape))
    right = log_probs(problem, params, x_t, t).argmax(axis=1) == wanted
    quartile = jax.nn.one_hot((t - 1) * QUARTILES // problem.process.T, QUARTILES)
    return (right[:, None] * quartile).sum(axis=0) / quartile.sum(axis=0)
