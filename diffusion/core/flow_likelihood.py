"""The exact log-likelihood of a denoiser, through its probability flow. Score SDE section 4.3, appendix D.2.

In the angle phi = atan(noise / signal) the flow of z = x / r, r = sqrt(signal^2 + noise^2), is regular at both ends.
With the change of variables along it (score SDE eq. 39), for D dimensions:

    dz / dphi = w_hat / r,  w_hat = signal eps_hat - noise x_0_hat
    log p(x_1) = log p(x_T) + D log(r_T / r_1) + int_{phi_1}^{phi_T} tr(d w_hat / d x) dphi
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffusion.core import gaussian
from diffusion.core.array_types import Array, Image, Keys, PerExample, expand, fold
from diffusion.core.forward_process import Process, at, prior
from diffusion.core.gaussian import sum_dims
from diffusion.core.reverse_process import Denoiser

Field = Callable[[Image], Image]
"""A function of a batch that treats each example alone."""

HALF_BIN = 1 / 255
"""Half the distance of two levels of x_0."""

Trace = Callable[[Field, Image, Array], tuple[Image, PerExample]]
"""trace(f, x, t) -> (f(x), tr(df / dx) of each example, or an unbiased estimate of it)."""


def hutchinson(keys: Keys) -> Trace:
    """v . (df / dx) v for a probe v of random signs, whose expectation is the trace. Hutchinson 1990.

    Signs (Rademacher) have the least variance of all independent probes: that of the off-diagonal entries alone. They
    are resampled at each t. The path does not depend on them, so the integral stays unbiased and errors average out
    along it (an adaptive solver, as published, must hold them fixed).
    """

    def trace(f: Field, x: Image, t: Array) -> tuple[Image, PerExample]:
        value, push = jax.linearize(f, x)
        drawn = fold(fold(keys, t), 0)  # 0: earlier versions numbered several probes
        v = jax.vmap(lambda key: jax.random.rademacher(key, x.shape[1:], x.dtype))(drawn)
        return value, sum_dims(v * push(v))

    return trace


def log_prob(process: Process, denoise: Denoiser, x_1: Image, trace: Trace) -> PerExample:
    """log p(x_1), in nats per example, of x_1 at t = 1 under the flow from p(x_T).

    Heun's method on the process's steps 1..T, on which the network was trained, as in sampling/heun.py; the trapezoidal
    rule for the trace. Both are second order in the steps. 2 network evaluations a step, one of them with its
    derivative. The denoiser must be smooth: do not clip it.
    """

    def field(t: Array) -> Field:
        ts = jnp.full(x_1.shape[0], t, jnp.int32)

        def w(x: Image) -> Image:
            prediction = denoise(x, process.base_t[ts])
            return at(process.signal, ts, x) * prediction.eps - at(process.noise, ts, x) * prediction.x_0

        return w

    radius = jnp.sqrt(process.signal**2 + process.noise**2)

    def half_angle(s: Array, t: Array) -> Array:
        """tan(h / 2) for the angle h from s to t. In place of h / 2 it makes Heun's step exact for constant x_0_hat."""
        sin = process.noise[t] * process.signal[s] - process.signal[t] * process.noise[s]
        cos = process.signal[s] * process.signal[t] + process.noise[s] * process.noise[t]
        return sin / (radius[s] * radius[t] + cos)

    def node(t: Array, carry: tuple[Image, PerExample]) -> tuple[Image, PerExample]:
        x_t, total = carry
        before, after = jnp.maximum(t - 1, 1), jnp.minimum(t + 1, process.T)  # a step of length 0 at either end
        first, slope = trace(field(t), x_t, t)
        scale, scale_after = (expand(1 / radius[i][None], x_t) for i in (t, after))
        up = half_angle(t, after)
        # A turn by the whole angle in the plane of z and its velocity is DDIM's step up, with constant x_0_hat.
        cos = (1 - up**2) / (1 + up**2)
        sin = 2 * up / (1 + up**2)
        ahead = (cos * scale * x_t + sin * scale * first) / scale_after
        second = field(after)(ahead)
        z = scale * x_t + up * (scale * first + scale_after * second)
        return z / scale_after, total + (half_angle(before, t) + up) * slope

    start = (x_1, jnp.zeros(x_1.shape[0]))
    x_T, integral = jax.lax.fori_loop(1, process.T + 1, node, start)
    growth = x_1[0].size * (jnp.log(radius[-1]) - jnp.log(radius[1]))
    return sum_dims(gaussian.log_prob(prior(process, x_T), x_T)) + growth + integral


def nll(keys: Keys, process: Process, denoise: Denoiser, x_0: Image) -> PerExample:
    """An upper bound on -log P(x_0) of a discrete x_0, in nats per example, by uniform dequantisation.

    -log p(x) - D log(2 HALF_BIN),  x uniform in the bin of x_0; in expectation at least -log int_bin p (Theis et al.
    2016). As in score SDE, data lie on the flow at its first level: p is the density of x_1 / signal[1], and a
    sampler's last step, from t = 1 to 0, is not part of the model. Random numbers come from fold_in(keys, 0) for the
    bin and fold_in(keys, t) for the probes.
    """
    drawn = jax.vmap(lambda key: jax.random.uniform(key, x_0.shape[1:], x_0.dtype, -1.0, 1.0))(fold(keys, 0))
    x_1 = process.signal[1] * (x_0 + HALF_BIN * drawn)
    volume = x_0[0].size * (jnp.log(process.signal[1]) + jnp.log(2 * HALF_BIN))
    return -log_prob(process, denoise, x_1, hutchinson(keys)) - volume
