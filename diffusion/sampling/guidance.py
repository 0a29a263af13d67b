"""Guidance towards a label, a function from denoiser to denoiser that works with every sampler.

Both kinds have one convention. With scale w the score is

    grad log p_hat(x_t | y) + w grad log p_hat(y | x_t)

and w = 0 is the denoiser itself. The added term comes from two denoisers by Bayes' rule (classifier-free), or from a
classifier. With score = -eps / noise[t], and x_0 from eps at the same x_t,

    eps   = eps_hat - w noise[t] grad log p_hat(y | x_t)
    x_0   = x_0_hat + w noise[t]^2 / signal[t] grad log p_hat(y | x_t)

Ho & Salimans 2022 write it so; the literature's other scale, eps_u + s (eps_c - eps_u), is s = 1 + w. A classifier of
scale s on the denoiser without labels corresponds to w = s - 1 (Bayes' rule); on one with labels, to w = s.

Guidance is applied before clipping, which then keeps x_0_hat in the range of the data.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion.core.array_types import Array, Image, Labels, PerExample, Time, expand
from diffusion.core.forward_process import Process, at
from diffusion.core.parameterization import Prediction
from diffusion.core.reverse_process import Denoiser

Interval = tuple[int, int]
"""(from, to): the steps of the base process in which guidance acts, both included."""

Scale = float | Array
"""The w above; an array of no dimensions where one compiled program serves several."""

Labelled = Callable[[Image, Time, Labels], Prediction]
"""denoise(x_t, t, labels): a denoiser with a label for each example."""

LogProb = Callable[[Image, Time], PerExample]
"""log_prob(x_t, t): log p(y | x_t) of the label wanted of each example, in nats. Example i depends on x_t[i] alone."""


def label_guided(
    denoise: Labelled, labels: Labels, null: int, scale: Scale, interval: Interval | None = None
) -> Denoiser:
    """eps = (1 + w) eps_c - w eps_u, and x_0 likewise, of a network with labels and `null`. Ho & Salimans 2022, eq. 6.

    Both are affine in each other at fixed x_t and the weights sum to 1, so x_0 and eps stay consistent for any process,
    and no division by signal[t] is needed. w = 0 is conditional, w = -1 unconditional. The variance is that with
    labels. `interval`: guidance for its steps alone, and labels alone at the others (Kynkaanniemi et al. 2024). Both
    predictions are one call of twice the batch, its rows interleaved: so a batch split over devices is not moved.
    """

    def conditional(x_t: Image, t: Time) -> Prediction:
        return denoise(x_t, t, labels)

    def guided(x_t: Image, t: Time, weight: PerExample) -> Prediction:
        pairs = jnp.stack([labels, jnp.full_like(labels, null)], axis=1).reshape(-1)
        out = denoise(jnp.repeat(x_t, 2, axis=0), jnp.repeat(t, 2), pairs)
        c, u = (jax.tree.map(lambda x, i=i: x.reshape(-1, 2, *x.shape[1:])[:, i], out) for i in (0, 1))
        w = expand(weight, x_t)
        return Prediction(c.x_0 + w * (c.x_0 - u.x_0), c.eps + w * (c.eps - u.eps), c.raw_var)

    return _within(guided, conditional, scale, interval)


def classifier_guided(
    process: Process, denoise: Denoiser, log_prob: LogProb, scale: Scale, interval: Interval | None = None
) -> Denoiser:
    """eps = eps_hat - scale noise[t] grad_x_t log p(y | x_t). Dhariwal & Nichol 2021, Algorithm 2.

    x_0_hat moves by scale noise[t]^2 / signal[t] grad log p, and with it the mean of the reverse step by

        c_x_0[t] noise[t]^2 / signal[t] scale grad log p = beta[t] / a scale grad log p,   a = signal[t] / signal[t-1]

    which is their Algorithm 1 (mean + scale Sigma grad log p) for Sigma = beta / a; fixed_large has Sigma = beta, and a
    tends to 1 as steps grow finer. The gradient is taken at x_t, as in their algorithm. This form serves every sampler.
    `process` is the base process; signal[t] > 0. `interval` as above: at other steps no gradient is taken.
    """

    def guided(x_t: Image, t: Time, weight: PerExample) -> Prediction:
        prediction = denoise(x_t, t)
        gradient = jax.grad(lambda x: jnp.sum(log_prob(x, t)))(x_t)
        push = expand(weight, x_t) * at(process.noise, t, x_t) * gradient
        x_0 = prediction.x_0 + at(process.noise, t, x_t) / at(process.signal, t, x_t) * push
        return prediction._replace(x_0=x_0, eps=prediction.eps - push)

    return _within(guided, denoise, scale, interval)


def _within(
    guided: Callable[[Image, Time, PerExample], Prediction], plain: Denoiser, scale: Scale, interval: Interval | None
) -> Denoiser:
    """`guided` with weight `scale` at the steps of the interval and 0 elsewhere; `plain` where no example needs it."""

    def always(x_t: Image, t: Time) -> Prediction:
        return guided(x_t, t, jnp.full(t.shape, scale, x_t.dtype))

    def sometimes(x_t: Image, t: Time) -> Prediction:
        first, last = interval or (0, 0)
        inside: Array = (first <= t) & (t <= last)
        weight = jnp.where(inside, jnp.asarray(scale, x_t.dtype), jnp.zeros((), x_t.dtype))
        return jax.lax.cond(inside.any(), guided, lambda x_t, t, weight: plain(x_t, t), x_t, t, weight)  # noqa: ARG005

    return always if interval is None else sometimes
