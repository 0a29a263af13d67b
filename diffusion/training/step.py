"""One update of the parameters, DDPM Algorithm 1, and several of them in one dispatch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diffusion.core import objective as objectives
from diffusion.core.denoiser import Diffusion, network_input, network_time, split
from diffusion.core.objective import Objective
from diffusion.core.process import noised
from diffusion.core.timesteps import Timesteps
from diffusion.core.types import Array, Image, Labels, OneKey, PerExample, Pixels, Time
from diffusion.data.transforms import random_flip, to_image
from diffusion.training import ema, health
from diffusion.training.accumulation import accumulate
from diffusion.training.health import Guard, Verdict
from diffusion.training.optimizer import Optimizer
from diffusion.training.state import Params, StepKeys, TrainState, step_keys

QUARTILES = 4
HEALTH = "health"


class Task(NamedTuple):
    """What is trained: the diffusion, the network, and how its loss is formed."""

    diffusion: Diffusion
    objective: Objective
    timesteps: Timesteps
    apply: Callable[[Params, Image, Array, Labels, OneKey], Array]
    """apply(params, x_t, time, labels, dropout_key) -> output, in training mode."""
    time_scale: float = 1.0
    flip: bool = False
    parts: int = 1
    """How many parts a batch is taken in, one after the other; they divide it."""


class Update(NamedTuple):
    """How parameters follow gradients."""

    optimizer: Optimizer
    ema_decay: float
    ema_warmup: bool = False
    guard: Guard = Guard()


Metrics = dict[str, Any]
"""name -> [sum, count] over examples or steps: sums add up over steps, and their ratio is the mean. Steps whose loss or
gradient was not finite have no share in them. Those of a dispatch have the Health after its last step besides."""

Gather = Callable[[Any, Any], tuple[Pixels, Labels]]
"""gather(data, batch): the pixels and labels of one step, from resident data and indices or from a streamed batch."""


def loss(task: Task, params: Params, key: OneKey, x_0: Image, labels: Labels, t: Time, eps: Image) -> objectives.Terms:
    """Per-example terms of the objective for x_t = q_sample(x_0, t, eps). `key` drives dropout."""
    batch = noised(task.diffusion.process, x_0, t, eps)
    scaled = network_input(task.diffusion.process, batch.x_t, t)
    out = task.apply(params, scaled, network_time(t, task.time_scale), labels, key)
    return objectives.evaluate(task.objective, task.diffusion, batch, *split(out, x_0.shape[-1]))


class Gradient(NamedTuple):
    """The gradient of one batch, and what it was formed from."""

    grads: Params
    value: Array
    """The mean loss, weighted."""
    terms: objectives.Terms
    """Per example and unweighted."""
    t: Time
    weight: PerExample


def gradient(task: Task, params: Params, timesteps: Any, keys: StepKeys, pixels: Pixels, labels: Labels) -> Gradient:
    """The gradient of the mean of weight * loss over a batch. DDPM Algorithm 1. `timesteps` is what t is drawn by.

    Taken in task.parts parts it is the same up to rounding: all random numbers are those of the whole batch.
    """
    x_0 = to_image(pixels)
    if task.flip:
        x_0 = random_flip(keys.flip, x_0)
    t, weight = task.timesteps.sample(keys.timesteps, timesteps, x_0.shape[0])
    eps = jax.random.normal(keys.noise, x_0.shape)

    def mean(rows: Any) -> tuple[tuple[Array, Params], objectives.Terms]:
        x_0, labels, t, eps, weight = rows

        def mean_loss(params: Params) -> tuple[Array, objectives.Terms]:
            terms = loss(task, params, keys.dropout, x_0, labels, t, eps)
            return jnp.mean(weight * terms.loss), terms

        (value, terms), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
        return (value, grads), terms

    batch = (x_0, labels, t, eps, weight)
    (value, grads), terms = mean(batch) if task.parts == 1 else accumulate(mean, batch, task.parts)
    return Gradient(grads, value, terms, t, weight)


def train_step(
    task: Task, update: Update, state: TrainState, pixels: Pixels, labels: Labels
) -> tuple[TrainState, Metrics]:
    """One gradient step on a batch. DDPM Algorithm 1.

    All random numbers come from fold_in(state.key, state.step) and are drawn for the global batch, so neither resuming
    nor the number of devices changes them. An update that is not fit (health.judge) is not made: all but the step
    number and the counters stays as it was. The moving average counts the updates that were made.
    """
    keys = step_keys(state.key, state.step)
    found = gradient(task, state.params, state.timesteps, keys, pixels, labels)
    verdict = health.judge(update.guard, state.health, state.step, found.value, found.grads)
    fit, optimizer = verdict.fit, update.optimizer
    updates, opt_state = optimizer.update(found.grads, state.opt_state, state.params, fit=fit, norm=verdict.norm)
    params = health.choose(fit, optax.apply_updates(state.params, updates), state.params)
    params = jax.lax.optimization_barrier(params)  # else the average would be fused with it: see optimizer.py
    rate = ema.decay(state.step - state.health.skipped, update.ema_decay, update.ema_warmup)
    average = health.choose(fit, ema.update(state.ema, params, rate), state.ema)
    history = task.timesteps.update(state.timesteps, found.t, found.terms.loss)
    history = health.choose(fit, history, state.timesteps)
    new = TrainState(state.step + 1, params, average, opt_state, history, state.key, verdict.health)
    return new, _metrics(task, found, verdict)


def train_steps(
    task: Task, update: Update, gather: Gather, state: TrainState, data: Any, batches: Any
) -> tuple[TrainState, Metrics]:
    """As many steps as `batches` has leading entries, in one dispatch; metrics are summed over them."""

    def body(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return train_step(task, update, state, *gather(data, batch))

    if jax.tree.leaves(batches)[0].shape[0] == 1:
        state, metrics = body(state, jax.tree.map(lambda x: x[0], batches))
    else:
        state, metrics = jax.lax.scan(body, state, batches)
        metrics = jax.tree.map(lambda m: m.sum(axis=0), metrics)
    return state, {**metrics, HEALTH: state.health}


def _metrics(task: Task, found: Gradient, verdict: Verdict) -> Metrics:
    """Loss, squared error overall and by quartile of t, and gradient norm, each as [sum, count].

    Means over t are weighted as the loss is, so that they estimate means over uniform t however t was drawn.
    """
    terms, weight = found.terms, found.weight
    metrics = {
        "loss": _one(found.value),
        "mse": _one(jnp.mean(weight * terms.mse)),
        "grad_norm": _one(verdict.norm),
    }
    if task.objective.vlb:
        metrics["vlb_bits_per_dim"] = _one(jnp.mean(weight * terms.vlb))
    quartile = (found.t - 1) * QUARTILES // task.diffusion.process.T
    for q in range(QUARTILES):
        share = jnp.where(quartile == q, weight, 0.0)
        metrics[f"mse_t_quartile_{q + 1}"] = jnp.stack([jnp.sum(share * terms.mse), jnp.sum(share)])
    return jax.tree.map(lambda m: jnp.where(verdict.finite, m, 0.0), metrics)


def _one(value: Array) -> Array:
    return jnp.stack([value, jnp.float32(1)])
