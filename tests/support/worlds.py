"""Worlds in which diffusion is solved in closed form, and the small processes that the tests of the maths share.

Vectors of D dimensions stand for images (the maths never asks for the shape behind B). What a world returns as NumPy is
exact, in float64 and from the tables of the process that it is given; those are proved in test_process.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from diffusion.core import schedules
from diffusion.core.array_types import expand
from diffusion.core.forward_process import Process, ve, vp
from diffusion.core.parameterization import Parameterization, Prediction, to_eps
from diffusion.core.variance import Variance
from tests.support import reference

Step = Callable[[int], tuple[float, float, np.ndarray | float]]
"""step(t) -> (k_0, k_t, var): a sampler's x_{t-1} = k_0 x_0_hat + k_t x_t + sqrt(var) z, z standard normal."""


class Case(NamedTuple):
    """A process and its independent re-derivation."""

    name: str
    process: Process
    chain: reference.Chain
    prior_var: float


def cases(T: int) -> list[Case]:
    """Two variance-preserving processes and a variance-exploding one that leave no signal; T is 6..40 or 100."""
    ends = (0.02, 0.98) if T < 20 else (0.01, 0.75) if T <= 40 else (1e-3, 0.2)
    return [
        Case("linear", vp(schedules.linear(T, *ends)), reference.vp_chain(reference.linear(T, *ends)), 1.0),
        Case("cosine", vp(schedules.cosine(T)), reference.vp_chain(reference.cosine(T)), 1.0),
        Case(
            "geometric",
            ve(schedules.geometric(T, 0.05, 50.0)),
            reference.ve_chain(reference.geometric(T, 0.05, 50.0)),
            2500.0,
        ),
    ]


def stacked(some: list[Case]) -> Process:
    """The processes of several cases of one T as one, for vmap."""
    return jax.tree.map(lambda *tables: jnp.stack(tables), *[case.process for case in some])


def one_variance(variances: list[Variance], index: jax.Array) -> Variance:
    """variances[index] for a traced index: all of them in one compiled function, which is what compiling costs here."""

    def chosen(process: Process, t: jax.Array, raw_var: jax.Array) -> jax.Array:
        def full(variance: Variance) -> jax.Array:
            return jnp.broadcast_to(expand(variance(process, t, raw_var), raw_var), raw_var.shape)

        return jax.lax.switch(index, [lambda v=v: full(v) for v in variances])

    return chosen


def one_parameterization(some: list[Parameterization], index: jax.Array) -> Parameterization:
    """some[index] for a traced index."""

    def field(name: str) -> Callable:
        return lambda *args: jax.lax.switch(index, [getattr(one, name) for one in some], *args)

    return Parameterization(field("target"), field("to_x_0"), field("gain"))


def float64(process: Process) -> Process:
    return Process(*(np.asarray(table, np.float64) for table in process))


def _row(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)[None]


class GaussianWorld(NamedTuple):
    """x_0 ~ N(mean, diag(std^2)): posterior, bound, reverse chain and probability flow are known."""

    mean: np.ndarray
    std: np.ndarray

    def draw(self, key: jax.Array, n: int) -> jax.Array:
        return _row(self.mean) + _row(self.std) * jax.random.normal(key, (n, len(self.mean)))

    def entropy(self) -> float:
        """E[-log q(x_0)] in nats, which no bound can undercut."""
        return float(np.sum(0.5 * np.log(2 * np.pi * np.e * self.std**2)))

    def marginal(self, process: Process, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of x_t."""
        p = float64(process)
        return p.signal[t] * self.mean, (p.signal[t] * self.std) ** 2 + p.noise[t] ** 2

    def posterior(self, process: Process, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(slope, offset, var) of x_0 given x_t: N(slope x_t + offset, var)."""
        p = float64(process)
        mean, var = self.marginal(process, t)
        slope = p.signal[t] * self.std**2 / var
        return slope, self.mean - slope * mean, self.std**2 * p.noise[t] ** 2 / var

    def denoiser(self, process: Process, optimal_variance: bool = False):
        """The optimal denoiser E[x_0 | x_t], for t of the base process; works with a traced process.

        With `optimal_variance` the raw channels are log Var[x_{t-1} | x_t], for `variance.learned`: p is then the exact
        reverse of q, and the bound is tight.
        """

        def denoise(x_t: jax.Array, t: jax.Array) -> Prediction:
            signal, noise = process.signal[t][:, None], process.noise[t][:, None]
            data_var = _row(self.std**2)
            var = signal**2 * data_var + noise**2
            x_0 = _row(self.mean) + signal * data_var / var * (x_t - signal * _row(self.mean))
            raw_var = None
            if optimal_variance:
                step_var = jnp.where(t > 1, jnp.exp(process.log_beta_tilde[t]), 0.0)[:, None]
                raw_var = jnp.log(step_var + process.c_x_0[t][:, None] ** 2 * data_var * noise**2 / var)
                raw_var = jnp.broadcast_to(raw_var, x_t.shape)
            return Prediction(x_0, to_eps(process, x_0, x_t, t), raw_var)

        return denoise

    def reverse_var(self, process: Process, t: int) -> np.ndarray:
        """Var[x_{t-1} | x_t], the variance of the exact reverse step."""
        p = float64(process)
        beta_tilde = np.exp(p.log_beta_tilde[t]) if t > 1 else 0.0
        return beta_tilde + p.c_x_0[t] ** 2 * self.posterior(process, t)[2]

    def prior_kl(self, process: Process) -> float:
        """E[L_T] over the data."""
        p = float64(process)
        second_moment = p.signal[-1] ** 2 * (self.mean**2 + self.std**2) + p.noise[-1] ** 2
        ratio = second_moment / np.exp(p.prior_log_var)
        return float(np.sum(0.5 * (p.prior_log_var - 2 * np.log(p.noise[-1]) + ratio - 1)))

    def terms(self, process: Process, log_var: np.ndarray) -> np.ndarray:
        """E of the bound's terms of the optimal denoiser, for t = 1..T, with the continuous decoder.

        `log_var[t]` is the log-variance of the reverse step, of shape [T + 1] or [T + 1, D]. The step's mean errs by
        c_x_0 (x_0 - x_0_hat), whose square is c_x_0^2 Var[x_0 | x_t] in expectation.
        """
        p = float64(process)
        log_var = np.asarray(log_var, np.float64)
        found = []
        for t in range(1, process.T + 1):
            error = p.c_x_0[t] ** 2 * self.posterior(process, t)[2]
            if t == 1:
                nats = 0.5 * (np.log(2 * np.pi) + log_var[t] + error * np.exp(-log_var[t]))
            else:
                d = p.log_beta_tilde[t] - log_var[t]
                nats = 0.5 * (np.exp(d) - 1 - d + error * np.exp(-log_var[t]))
            found.append(np.sum(nats))
        return np.array(found)

    def chain_law(self, process: Process, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the x_0 that a sampler with the optimal denoiser makes of x_T ~ p(x_T)."""
        mean = np.zeros_like(self.mean)
        var = np.full_like(self.std, np.exp(np.float64(process.prior_log_var)))
        for t in range(process.T, 0, -1):
            k_0, k_t, noise_var = step(t)
            slope, offset, _ = self.posterior(process, t)
            mean, var = (k_0 * slope + k_t) * mean + k_0 * offset, (k_0 * slope + k_t) ** 2 * var + noise_var
        return mean, var

    def flow(self, process: Process, x: np.ndarray, t: int, s: int = 0) -> np.ndarray:
        """The probability-flow map x_t -> x_s: for a Gaussian, the affine map between the two marginals."""
        (mean_t, var_t), (mean_s, var_s) = self.marginal(process, t), self.marginal(process, s)
        return mean_s + np.sqrt(var_s / var_t) * (np.asarray(x, np.float64) - mean_t)


def ancestral_step(process: Process, log_var: np.ndarray) -> Step:
    """DDPM Algorithm 2: the posterior mean, noise of log_var[t] except at t = 1."""
    p, log_var = float64(process), np.asarray(log_var, np.float64)
    return lambda t: (p.c_x_0[t], p.c_x_t[t], np.exp(log_var[t]) if t > 1 else 0.0)


class MixtureWorld(NamedTuple):
    """x_0 ~ sum_k weight[k] N(mean[k], diag(std[k]^2)): the denoiser and the density of x_t are known."""

    weight: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def draw(self, key: jax.Array, n: int) -> jax.Array:
        which, noise = jax.random.split(key)
        k = jax.random.choice(which, len(self.weight), (n,), p=jnp.asarray(self.weight, jnp.float32))
        mean, std = jnp.asarray(self.mean, jnp.float32)[k], jnp.asarray(self.std, jnp.float32)[k]
        return mean + std * jax.random.normal(noise, mean.shape)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of x_0, per dimension."""
        mean = self.weight @ self.mean
        return mean, self.weight @ (self.std**2 + self.mean**2) - mean**2

    def log_density(self, process: Process, x_t: np.ndarray, t: int) -> np.ndarray:
        """log q(x_t) of each row of x_t, in nats."""
        p = float64(process)
        mean, var = p.signal[t] * self.mean, (p.signal[t] * self.std) ** 2 + p.noise[t] ** 2
        x_t = np.asarray(x_t, np.float64)[:, None]
        parts = -0.5 * np.sum((x_t - mean) ** 2 / var + np.log(2 * np.pi * var), axis=-1)
        return logsumexp(parts + np.log(self.weight), axis=1)

    def denoiser(self, process: Process):
        """The optimal denoiser E[x_0 | x_t] = sum_k p(k | x_t) E[x_0 | x_t, k]."""

        def denoise(x_t: jax.Array, t: jax.Array) -> Prediction:
            signal, noise = process.signal[t][:, None, None], process.noise[t][:, None, None]
            mean, data_var = _row(self.mean), _row(self.std**2)
            var = signal**2 * data_var + noise**2
            error = x_t[:, None] - signal * mean
            log_parts = jnp.log(_row(self.weight)) - 0.5 * jnp.sum(error**2 / var + jnp.log(var), axis=-1)
            parts = mean + signal * data_var / var * error
            x_0 = jnp.sum(jax.nn.softmax(log_parts, axis=1)[..., None] * parts, axis=1)
            return Prediction(x_0, to_eps(process, x_0, x_t, t), None)

        return denoise


GAUSSIAN = GaussianWorld(np.array([0.5, -0.3, 0.0]), np.array([0.2, 0.6, 1.5]))
MIXTURE = MixtureWorld(
    np.array([0.5, 0.3, 0.2]),
    np.array([[-0.7, -0.5, 0.3], [0.6, 0.1, -0.2], [0.2, 0.8, 0.7]]),
    np.array([[0.1, 0.2, 0.15], [0.2, 0.1, 0.1], [0.1, 0.15, 0.3]]),
)


def standard_errors(samples, expected) -> np.ndarray:
    """How many standard errors the mean over axis 0 is away from `expected`."""
    samples = np.asarray(samples, np.float64)
    return np.abs(samples.mean(axis=0) - expected) / (samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


def intermediates(f: Callable, *args) -> list[tuple[int, ...]]:
    """Shapes of all arrays that `f(*args)` makes on its way, those inside loops included: what bounds its memory."""
    kinds = (jax.extend.core.Jaxpr, jax.extend.core.ClosedJaxpr)

    def walk(jaxpr) -> list[tuple[int, ...]]:
        found = [tuple(v.aval.shape) for eqn in jaxpr.eqns for v in eqn.outvars]
        for eqn in jaxpr.eqns:
            for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: isinstance(x, kinds)):
                if isinstance(value, kinds):
                    found += walk(getattr(value, "jaxpr", value))
        return found

    return walk(jax.make_jaxpr(f)(*args).jaxpr)
