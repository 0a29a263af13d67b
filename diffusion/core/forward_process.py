"""The forward process q and its posterior, as tables over t.

    q(x_t | x_0)            = N(signal[t] x_0, noise[t]^2 I)                          DDPM eq. 4
    q(x_t | x_{t-1})        = N(a x_{t-1}, beta I),  a = signal[t] / signal[t-1]      DDPM eq. 2
    q(x_{t-1} | x_t, x_0)   = N(c_x_0[t] x_0 + c_x_t[t] x_t, beta_tilde[t] I)         DDPM eq. 6, 7

One record holds variance-preserving and variance-exploding processes and flows; no other code distinguishes them.
Skipping steps gives an ordinary process with fewer steps: vp(alpha_bar[ts], base_t=ts), with ts[0] = 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Array, Image, PerExample, Time, expand
from diffusion.core.gaussian import Gaussian


class Process(NamedTuple):
    """Float32 tables of length T + 1, computed in float64 and indexed by t; index 0 is clean data.

    Entries 0 of the log-variances repeat entries 1: no table holds an infinity, so gradients through `jnp.where` are
    finite.
    """

    signal: Array
    """Mean factor of q(x_t | x_0): sqrt(alpha_bar), 1, or 1 - u."""
    noise: Array
    """Standard deviation of q(x_t | x_0): sqrt(1 - alpha_bar), sigma, or u."""
    c_x_0: Array
    """Factor of x_0 in the posterior mean, sqrt(alpha_bar[t-1]) beta[t] / (1 - alpha_bar[t]) if variance preserving."""
    c_x_t: Array
    """Factor of x_t in the posterior mean, sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t])."""
    log_beta: Array
    """Log-variance of a forward step, log beta[t]."""
    log_beta_tilde: Array
    """Log-variance of the posterior, log beta_tilde[t]. Entry 1, whose logarithm is -inf, is the decoder's stand-in:
    log beta_tilde[2] as in the published code, or what `decoder_var` says (see `from_tables`, `ve`)."""
    prior_log_var: Array
    """Log-variance of p(x_T): 0 if variance preserving or a flow, log sigma_T^2 if variance exploding. A scalar."""
    scale: Array
    """1 / sqrt(signal^2 sigma_data^2 + noise^2): scale[t] x_t has unit variance if the data have sigma_data^2. 1 if
    variance preserving and sigma_data is 1."""
    base_t: Array
    """int32. The step of the process that the network was trained on; the identity unless respaced."""
    time: Array
    """What the network receives for step t; base_t - 1 unless replaced. Entry 0 repeats entry 1."""
    sigma_data: Array
    """Standard deviation that `scale` and the edm parameterisation assume of the data. A scalar."""

    @property
    def T(self) -> int:
        """Number of steps."""
        return self.signal.shape[0] - 1

    def beta(self, t: Time) -> PerExample:
        """Variance of q(x_t | x_{t-1}), noise[t]^2 - (signal[t] / signal[t-1])^2 noise[t-1]^2; t in 1..T."""
        return jnp.exp(self.log_beta[t])

    def beta_tilde(self, t: Time) -> PerExample:
        """Variance of q(x_{t-1} | x_t, x_0), beta[t] noise[t-1]^2 / noise[t]^2; t in 1..T. It is 0 at t = 1."""
        return jnp.where(t > 1, jnp.exp(self.log_beta_tilde[t]), 0.0)


class Noised(NamedTuple):
    """A noised batch and what it was made from: x_t = signal[t] x_0 + noise[t] eps. Made by `noised`."""

    x_0: Image
    eps: Image
    x_t: Image
    t: Time


def from_tables(
    signal: np.ndarray,
    var: np.ndarray,
    prior_var: float = 1.0,
    base_t: np.ndarray | None = None,
    decoder_var: float | None = None,
    sigma_data: float = 1.0,
) -> Process:
    """The process with q(x_t | x_0) = N(signal[t] x_0, var[t] I), from float64 tables of length T + 1.

    With a = signal[t] / signal[t-1] and beta = var[t] - a^2 var[t-1] (Kingma et al. 2021, eq. 26-27 in this notation):
    c_x_0 = signal[t-1] beta / var[t],  c_x_t = a var[t-1] / var[t],  beta_tilde = beta var[t-1] / var[t].

    At t = 1 the posterior is a point (beta_tilde = 0). The table log_beta_tilde has the entry of t = 2 there, which
    gives the better decoder likelihood (DDPM's code); with T = 1 it is log beta[1]. `decoder_var` is another choice.
    Raises ValueError where the noise does not grow, the tables do not start from clean data or lengths differ.
    """
    signal, var = np.asarray(signal, np.float64), np.asarray(var, np.float64)
    if signal.shape != var.shape or signal.ndim != 1 or len(signal) < 2:
        raise ValueError(f"signal and noise need one entry for each t = 0..T; got shapes {signal.shape}, {var.shape}")
    if signal[0] != 1 or var[0] != 0:
        raise ValueError(f"entry 0 is clean data: signal 1 and noise 0, not {signal[0]:g} and {var[0] ** 0.5:g}")
    a = signal[1:] / signal[:-1]
    beta = var[1:] - a**2 * var[:-1]
    if not (beta > 0).all():
        t = int(np.argmin(beta > 0)) + 1
        raise ValueError(f"step {t} adds no noise: the noise level must grow strictly with t")
    beta_tilde = beta * var[:-1] / var[1:]
    first = decoder_var or (beta_tilde[1] if len(beta) > 1 else beta[0])
    steps = np.arange(len(signal)) if base_t is None else np.asarray(base_t)
    if steps.shape != signal.shape:
        raise ValueError(f"base_t needs one entry for each t = 0..{len(beta)}; got shape {steps.shape}")
    return Process(
        signal=_f32(signal),
        noise=_f32(np.sqrt(var)),
        c_x_0=_f32([1.0, *(signal[:-1] * beta / var[1:])]),
        c_x_t=_f32([0.0, *(a * var[:-1] / var[1:])]),
        log_beta=_f32(np.log([beta[0], *beta])),
        log_beta_tilde=_f32(np.log([first, first, *beta_tilde[1:]])),
        prior_log_var=_f32(np.log(prior_var)),
        scale=_f32((signal**2 * sigma_data**2 + var) ** -0.5),
        base_t=jnp.asarray(steps, jnp.int32),
        time=_f32(steps - 1).at[0].set(steps[1] - 1.0),
        sigma_data=_f32(sigma_data),
    )


def vp(alpha_bar: np.ndarray, base_t: np.ndarray | None = None, sigma_data: float = 1.0) -> Process:
    """The variance-preserving process of a schedule alpha_bar[0..T]. DDPM eq. 2, 4, 7."""
    alpha_bar = np.asarray(alpha_bar, np.float64)
    return from_tables(np.sqrt(alpha_bar), 1.0 - alpha_bar, base_t=base_t, sigma_data=sigma_data)


def ve(sigma: np.ndarray, base_t: np.ndarray | None = None, sigma_data: float = 1.0) -> Process:
    """The variance-exploding process x_t = x_0 + sigma[t] eps, sigma[0] = 0. Score SDE eq. 31 and appendix F.

    The decoder's variance is sigma[1]^2, that of x_0 given x_1 under a flat prior. As geometric levels rise in small
    steps beta_tilde[2] is far smaller: with levels 1% apart its decoder is 7 times narrower, its likelihood much worse.
    """
    sigma = np.asarray(sigma, np.float64)
    var = sigma**2
    signal = np.ones_like(sigma)
    return from_tables(signal, var, prior_var=var[-1], base_t=base_t, decoder_var=var[1], sigma_data=sigma_data)


def flow(u: np.ndarray, base_t: np.ndarray | None = None, sigma_data: float = 1.0) -> Process:
    """The process x_t = (1 - u[t]) x_0 + u[t] eps of an interpolation u[0..T], u[0] = 0.

    Its probability flow is that of rectified flow and of flow matching with straight conditional paths (Liu et al. 2023
    eq. 1; Lipman et al. 2023 eq. 20-22 with sigma_min = 0; time runs from noise to data there).
    """
    u = np.asarray(u, np.float64)
    return from_tables(1.0 - u, u**2, prior_var=float(u[-1] ** 2), base_t=base_t, sigma_data=sigma_data)


def at(table: Array, t: Time, like: Image) -> Array:
    """table[t], shaped to broadcast against `like`."""
    return expand(table[t], like)


def q_sample(process: Process, x_0: Image, t: Time, eps: Image) -> Image:
    """A draw of q(x_t | x_0): signal[t] x_0 + noise[t] eps, for standard normal eps. DDPM eq. 4; t in 0..T."""
    return at(process.signal, t, x_0) * x_0 + at(process.noise, t, x_0) * eps


def noised(process: Process, x_0: Image, t: Time, eps: Image) -> Noised:
    """The noised batch with x_t = q_sample(process, x_0, t, eps)."""
    return Noised(x_0, eps, q_sample(process, x_0, t, eps), t)


def q_marginal(process: Process, x_0: Image, t: Time) -> Gaussian:
    """q(x_t | x_0) = N(signal[t] x_0, noise[t]^2 I). DDPM eq. 4; t in 1..T (at t = 0 it is a point)."""
    return Gaussian(at(process.signal, t, x_0) * x_0, 2 * jnp.log(at(process.noise, t, x_0)))


def q_step(process: Process, x_s: Image, t: Time) -> Gaussian:
    """q(x_t | x_{t-1}) = N(signal[t] / signal[t-1] x_s, beta[t] I) from x_s = x_{t-1}; t in 1..T. DDPM eq. 2."""
    ratio = at(process.signal, t, x_s) / at(process.signal, t - 1, x_s)
    return Gaussian(ratio * x_s, at(process.log_beta, t, x_s))


def q_posterior(process: Process, x_0: Image, x_t: Image, t: Time) -> Gaussian:
    """q(x_{t-1} | x_t, x_0), the posterior of one forward step.

    mean = c_x_0[t] x_0 + c_x_t[t] x_t,  var = beta_tilde[t]. DDPM eq. 6-7; for VE, score SDE appendix F.

    t in 1..T. At t = 1 the variance is 0, and log_var is the decoder's stand-in.
    """
    mean = at(process.c_x_0, t, x_0) * x_0 + at(process.c_x_t, t, x_0) * x_t
    return Gaussian(mean, at(process.log_beta_tilde, t, x_0))


def prior(process: Process, like: Image) -> Gaussian:
    """p(x_T) = N(0, I), or N(0, sigma_T^2 I) if variance exploding, in the shape of `like`."""
    return Gaussian(jnp.zeros_like(like), jnp.zeros_like(like) + process.prior_log_var)


def snr(process: Process, t: Time) -> PerExample:
    """Signal-to-noise ratio signal[t]^2 / noise[t]^2; t in 1..T (infinite at 0)."""
    return (process.signal[t] / process.noise[t]) ** 2


def _f32(x) -> Array:
    return jnp.asarray(np.asarray(x, np.float64).astype(np.float32))
