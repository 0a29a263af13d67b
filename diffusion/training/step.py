"""One update of the parameters, DDPM Algorithm 1, and several of them in one dispatch."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from diffusion.core import objective as objectives
from diffusion.core.array_types import Array, Condition, Image, Labels, OneKey, PerExample, Pixels, Time
from diffusion.core.forward_process import noised
from diffusion.core.objective import Objective
from diffusion.core.reverse_process import Diffusion, network_input, network_time, split
from diffusion.core.timesteps import Timesteps
from diffusion.data.augmentation import Augment, unchanged
from diffusion.data.transforms import to_image
from diffusion.training import skipped_updates, weight_averages
from diffusion.training.accumulation import accumulate
from diffusion.training.optimizer import IN_STAGES, Optimizer, Passes
from diffusion.training.skipped_updates import Guard
from diffusion.training.state import Params, StepKeys, TrainState, step_keys

QUARTILES = 4
HEALTH = "health"
LABELS = 1
"""Folded into the dropout key: labels are hidden independently of the network's dropout."""


class Gradient(NamedTuple):
    """What one batch gives an update."""

    grads: Params
    loss: Array
    """The mean loss, of which `grads` is the gradient."""
    metrics: dict[str, Array]
    """name -> [sum, count]"""
    timesteps: Any
    """The state of the timestep sampler after the batch."""


@runtime_checkable
class Trainable(Protocol):
    """Anything that train_step can train: a loss, given by its gradient on a batch."""

    def gradient(self, params: Params, timesteps: Any, keys: StepKeys, pixels: Pixels, labels: Labels, /) -> Gradient:
        """The gradient of the mean loss; all random numbers come from `keys`."""
        ...


class Task(NamedTuple):
    """The training of a diffusion: the process, the network, and how its loss is formed."""

    diffusion: Diffusion
    objective: Objective
    timesteps: Timesteps
    apply: Callable[[Params, Image, Array, Labels, Condition | None, OneKey], Array]
    """apply(params, x_t, time, labels, condition, dropout_key) -> output, in training mode."""
    augment: Augment = unchanged
    parts: int = 1
    """How many parts a batch is computed in, one after the other; they divide it."""

    def gradient(self, params: Params, timesteps: Any, keys: StepKeys, pixels: Pixels, labels: Labels) -> Gradient:
        """The gradient of the mean of weight * loss over a batch. DDPM Algorithm 1.

        `timesteps` is the state of the distribution of t; the losses are added to it. Computed in task.parts parts the
        gradient is the same up to rounding: all random numbers are those of the whole batch.
        """
        x_0, condition = self.augment(keys.augment, to_image(pixels))
        t, weight = self.timesteps.sample(keys.timesteps, timesteps, x_0.shape[0])
        eps = jax.random.normal(keys.noise, x_0.shape)

        def mean(rows: Any) -> tuple[tuple[Array, Params], objectives.Terms]:
            x_0, labels, condition, t, eps, weight = rows

            def mean_loss(params: Params) -> tuple[Array, objectives.Terms]:
                terms = loss(self, params, keys.dropout, x_0, labels, condition, t, eps)
                return jnp.mean(weight * terms.loss), terms

            (value, terms), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
            return (value, grads), terms

        batch = (x_0, labels, condition, t, eps, weight)
        (value, grads), terms = mean(batch) if self.parts == 1 else accumulate(mean, batch, self.parts)
        metrics = {"loss": one(value), **_errors(self, terms, t, weight)}
        return Gradient(grads, value, metrics, self.timesteps.update(timesteps, t, terms.loss))


class Update(NamedTuple):
    """How parameters follow gradients."""

    optimizer: Optimizer
    ema_decay: float
    ema_warmup: bool = False
    guard: Guard = Guard()
    passes: Passes = IN_STAGES
    gather: Callable[[Params], Params] = lambda params: params
    """Places weights as the network uses them."""
    scatter: Callable[[Params], Params] = lambda tree: tree
    """Places gradients and weights as the optimiser uses them."""
    store: Callable[[TrainState], TrainState] = lambda state: state
    """The state as it is kept while it is trained."""
    whole: Callable[[TrainState], TrainState] = lambda state: state
    """The inverse: the state as it is elsewhere."""


Metrics = dict[str, Any]
"""name -> [sum, count] over examples or steps: sums add up over steps, and their ratio is the mean. Steps whose loss or
gradient was not finite do not count. Those of a dispatch also have the Health after its last step."""

Gather = Callable[[Any, Any], tuple[Pixels, Labels]]
"""gather(data, batch): the pixels and labels of one step, from resident data and indices or from a streamed batch."""


def loss(
    task: Task,
    params: Params,
    key: OneKey,
    x_0: Image,
    labels: Labels,
    condition: Condition | None,
    t: Time,
    eps: Image,
) -> objectives.Terms:
    """Per-example terms of the objective for x_t = q_sample(x_0, t, eps). `key` drives dropout."""
    process = task.diffusion.process
    batch = noised(process, x_0, t, eps)
    x, time = network_input(process, batch.x_t, t), network_time(process, t)
    out = task.apply(params, x, time, labels, condition, key)
    return objectives.evaluate(task.objective, task.diffusion, batch, *split(out, x_0.shape[-1]))


def hidden(key: OneKey, labels: Labels, share: float, null: int) -> Labels:
    """Each label replaced by `null` with probability `share`. Ho & Salimans 2022, Algorithm 1, p_uncond.

    share = 0 changes nothing and draws nothing. The draw is that of an nn.Dropout layer: accumulation.dropout_rows
    makes it that of the whole batch where a batch is taken in parts. `key` is the step's dropout key.
    """
    rngs = {"dropout": jax.random.fold_in(key, LABELS)}
    visible = nn.Dropout(share, deterministic=False).apply({}, jnp.ones(labels.shape), rngs=rngs)
    return jnp.where(jnp.asarray(visible) > 0, labels, null)


def train_step(
    task: Trainable, update: Update, state: TrainState, pixels: Pixels, labels: Labels
) -> tuple[TrainState, Metrics]:
    """One gradient step on a batch.

    All random numbers come from fold_in(state.key, state.step) and are drawn for the global batch, so neither resuming
    nor the number of devices changes them. An update that skipped_updates.check rejects is skipped: all but the step
    number and the counters stays as it was. The moving average counts the updates that were made.
    """
    keys = step_keys(state.key, state.step)
    batch = task.gradient(update.gather(state.params), state.timesteps, keys, pixels, labels)
    grads, own = update.scatter(batch.grads), update.scatter(state.params)
    fit, finite, norm, health = skipped_updates.check(
        update.guard, state.health, state.step, batch.loss, grads, update.passes.squares
    )
    updates, opt_state = update.optimizer.update(grads, state.opt_state, own, fit=fit, norm=norm)
    params = skipped_updates.choose(fit, optax.apply_updates(own, updates), own)
    params = update.passes.stage(params)  # else the average would be fused with it
    rate = weight_averages.decay(state.step - state.health.skipped, update.ema_decay, update.ema_warmup)
    average = skipped_updates.choose(fit, weight_averages.update(state.ema, params, rate), state.ema)
    history = skipped_updates.choose(fit, batch.timesteps, state.timesteps)
    metrics = {**batch.metrics, "grad_norm": one(norm)}
    metrics = jax.tree.map(lambda m: jnp.where(finite, m, 0.0), metrics)
    return TrainState(state.step + 1, params, average, opt_state, history, state.key, health), metrics


def train_steps(
    task: Trainable, update: Update, gather: Gather, state: TrainState, data: Any, batches: Any
) -> tuple[TrainState, Metrics]:
    """As many steps as `batches` has leading entries, in one compiled call; metrics are summed over them."""

    def body(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return train_step(task, update, state, *gather(data, batch))

    if jax.tree.leaves(batches)[0].shape[0] == 1:
        state, metrics = body(state, jax.tree.map(lambda x: x[0], batches))
    else:
        state, metrics = jax.lax.scan(body, state, batches)
        metrics = jax.tree.map(lambda m: m.sum(axis=0), metrics)
    return state, {**metrics, HEALTH: state.health}


def _errors(task: Task, terms: objectives.Terms, t: Time, weight: PerExample) -> dict[str, Array]:
    """Squared error overall and by quartile of t, and the bound where it is trained on, each as [sum, count].

    Means over t are weighted as the loss is, so that they estimate means over uniform t however t was drawn, except of
    lognormal, whose weights are 1: they are means over its density.
    """
    metrics = {"mse": one(jnp.mean(weight * terms.mse))}
    if task.objective.vlb:
        metrics["vlb_bits_per_dim"] = one(jnp.mean(weight * terms.vlb))
    quartile = (t - 1) * QUARTILES // task.diffusion.process.T
    for q in range(QUARTILES):
        share = jnp.where(quartile == q, weight, 0.0)
        metrics[f"mse_t_quartile_{q + 1}"] = jnp.stack([jnp.sum(share * terms.mse), jnp.sum(share)])
    return metrics


def one(value: Array) -> Array:
    """A mean as a metric, [sum, count] of one step."""
    return jnp.stack([value, jnp.float32(1)])
