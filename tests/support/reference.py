"""A slow float64 re-derivation from the papers, independent of the package: only math, numpy and scipy.

A forward chain is what DDPM eq. 2 states, one pair for each step: x_t = a[t] x_{t-1} + sqrt(beta[t]) e_t. All else
follows from it by composing steps, by conditioning dense Gaussians and by loops, never by the closed forms under test.
Tables have length T + 1; entry 0 is clean data.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Chain(NamedTuple):
    a: np.ndarray
    beta: np.ndarray

    @property
    def T(self) -> int:
        return len(self.a) - 1


def vp_chain(beta) -> Chain:
    """Variance preserving: a = sqrt(1 - beta). `beta` has length T."""
    return Chain(np.array([1.0, *(math.sqrt(1.0 - b) for b in beta)]), np.array([0.0, *beta]))


def ve_chain(sigma) -> Chain:
    """Variance exploding: a = 1. `sigma` has length T + 1, sigma[0] = 0."""
    return Chain(np.ones(len(sigma)), np.array([0.0, *(s**2 - r**2 for r, s in pairwise(sigma))]))


# Schedules: beta[1..T] or sigma[0..T] as plain lists.


def ramp(first: float, last: float, n: int) -> list[float]:
    return [first + (last - first) * i / (n - 1) if n > 1 else first for i in range(n)]


def linear(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> list[float]:
    return ramp(beta_1, beta_T, T)


def quad(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> list[float]:
    return [root**2 for root in ramp(math.sqrt(beta_1), math.sqrt(beta_T), T)]


def const(T: int, beta_T: float = 0.02) -> list[float]:
    return [beta_T for _ in range(T)]


def jsd(T: int) -> list[float]:
    return [1.0 / (T - t + 1) for t in range(1, T + 1)]


def warmup(T: int, share: float, beta_1: float = 1e-4, beta_T: float = 0.02) -> list[float]:
    n = int(T * share)
    return ramp(beta_1, beta_T, n) + [beta_T] * (T - n)


def cosine(T: int) -> list[float]:
    def f(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1.0 - f(t / T) / f((t - 1) / T), 0.999) for t in range(1, T + 1)]


def sigmoid(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> list[float]:
    return [beta_1 + (beta_T - beta_1) / (1.0 + math.exp(-z)) for z in ramp(-6.0, 6.0, T)]


def geometric(T: int, sigma_1: float, sigma_T: float) -> list[float]:
    return [0.0] + [sigma_1 * (sigma_T / sigma_1) ** (i / (T - 1)) for i in range(T)]


def constant(T: int, sigma_T: float) -> list[float]:
    return [sigma_T * math.sqrt(t / T) for t in range(T + 1)]


# The forward process, by composition and conditioning.


def marginals(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """(signal, var) of q(x_t | x_0), one step composed with the next."""
    signal, var = [1.0], [0.0]
    for a, beta in zip(chain.a[1:], chain.beta[1:], strict=True):
        signal.append(a * signal[-1])
        var.append(a * a * var[-1] + beta)
    return np.array(signal), np.array(var)


def regress(cov: np.ndarray, kept: int, given: list[int]) -> tuple[np.ndarray, float]:
    """Coefficients of E[x_kept | x_given] and the conditional variance, for a joint Gaussian of mean 0."""
    inner = cov[np.ix_(given, given)]
    cross = cov[kept, given]
    coefficients = np.linalg.solve(inner, cross)
    return coefficients, float(cov[kept, kept] - cross @ coefficients)


def path_covariance(chain: Chain, last: int) -> np.ndarray:
    """Dense covariance of (x_0, ..., x_last) with x_0 ~ N(0, 1), which leaves q(. | x_0) as it is."""
    mix = np.zeros((last + 1, last + 1))
    mix[0, 0] = 1.0
    for t in range(1, last + 1):
        mix[t] = chain.a[t] * mix[t - 1]
        mix[t, t] += math.sqrt(chain.beta[t])
    return mix @ mix.T


def posterior(chain: Chain, t: int) -> tuple[float, float, float]:
    """(c_x_0, c_x_t, var) of q(x_{t-1} | x_t, x_0), from the dense 3 x 3 covariance of (x_0, x_{t-1}, x_t)."""
    if t == 1:
        return 1.0, 0.0, 0.0
    signal, var = marginals(Chain(chain.a[:t], chain.beta[:t]))
    s, v, a, beta = signal[-1], var[-1], chain.a[t], chain.beta[t]
    x_0 = np.array([1.0, 0.0, 0.0])  # rows: x_0, x_{t-1} and x_t as combinations of three independent normals
    x_s = s * x_0 + np.array([0.0, math.sqrt(v), 0.0])
    x_t = a * x_s + np.array([0.0, 0.0, math.sqrt(beta)])
    rows = np.stack([x_0, x_s, x_t])
    (c_x_0, c_x_t), conditional = regress(rows @ rows.T, 1, [0, 2])
    return float(c_x_0), float(c_x_t), conditional


class LogVariances(NamedTuple):
    """[T + 1] each; entry 0 repeats entry 1."""

    beta: np.ndarray
    """log beta_t, of the steps of DDPM eq. 2 themselves."""
    small: np.ndarray
    """log beta_tilde_t of DDPM eq. 7. The posterior at t = 1 has variance 0, so that of t = 2 stands there, or beta_1
    if the chain explodes."""

    @property
    def large(self) -> np.ndarray:
        """The fixed-large variance of DDPM section 3.2 with the published code's first entry, that of `small`."""
        return np.concatenate([self.small[:2], self.beta[2:]])

    def between(self, raw: float, t: int) -> float:
        """Improved DDPM eq. 15, v log beta + (1 - v) log beta_tilde with v = (raw + 1) / 2."""
        share = (raw + 1) / 2
        return share * self.beta[t] + (1 - share) * self.small[t]


def log_variances(chain: Chain) -> LogVariances:
    small = [posterior(chain, t)[2] for t in range(1, chain.T + 1)]
    small[0] = chain.beta[1] if chain.a[chain.T] == 1 else small[1]
    return LogVariances(np.log([chain.beta[1], *chain.beta[1:]]), np.log([small[0], *small]))


# Gaussians.


def kl(mean_1: float, log_var_1: float, mean_2: float, log_var_2: float) -> float:
    std_1, std_2 = math.exp(log_var_1 / 2), math.exp(log_var_2 / 2)
    return math.log(std_2 / std_1) + (std_1**2 + (mean_1 - mean_2) ** 2) / (2 * std_2**2) - 0.5


def log_prob(x: float, mean: float, log_var: float) -> float:
    return -((x - mean) ** 2) / (2 * math.exp(log_var)) - math.log(math.sqrt(2 * math.pi * math.exp(log_var)))


def standard_cdf(z: float) -> float:
    return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def discretized_log_prob(x: float, mean: float, log_var: float) -> float:
    std = math.exp(log_var / 2)
    above = 1.0 if x > 0.999 else standard_cdf((x + 1 / 255 - mean) / std)
    below = 0.0 if x < -0.999 else standard_cdf((x - 1 / 255 - mean) / std)
    return math.log(max(above - below, 1e-12))


# The bound, DDPM eq. 5, one number at a time.


def x_0_hat(name: str, out: float, x_t: float, signal: float, var: float, coefficients: tuple) -> float:
    """x_0 solved from the definition of what the network outputs."""
    noise = math.sqrt(var)
    c_x_0, c_x_t = coefficients[:2]
    rows = {  # one linear equation of (x_0, eps) for the output, another for x_t
        "eps": [0.0, 1.0],
        "x_0": [1.0, 0.0],
        "mu": [c_x_0 + c_x_t * signal, c_x_t * noise],
        "v": [-noise, signal],
        "velocity": [-1.0, 1.0],
        "edm": [noise / math.sqrt(signal**2 + var), -signal / math.sqrt(signal**2 + var)],
    }
    return float(np.linalg.solve(np.array([rows[name], [signal, noise]]), np.array([out, x_t]))[0])


def bound(chain, prior_var, x_0, eps, network, parameterization, variance, log_density):
    """(L_T [B], terms [B, T], squared errors [B, T]) for noise eps[T, B, D] and network(x_t, t) -> (out, raw)."""
    signal, var = marginals(chain)
    log_var_of = log_variances(chain)
    B, D = x_0.shape
    prior, terms, mse = np.zeros(B), np.zeros((B, chain.T)), np.zeros((B, chain.T))
    for t in range(1, chain.T + 1):
        coefficients = posterior(chain, t)
        for b in range(B):
            x_t = signal[t] * x_0[b] + math.sqrt(var[t]) * eps[t - 1, b]
            out, raw = network(x_t, t)
            for d in range(D):
                hat = x_0_hat(parameterization, out[d], x_t[d], signal[t], var[t], coefficients)
                log_var = {
                    "fixed_large": log_var_of.large[t],
                    "fixed_small": log_var_of.small[t],
                    "learned": raw[d],
                    "learned_range": log_var_of.between(raw[d], t),
                }[variance]
                mean = coefficients[0] * hat + coefficients[1] * x_t[d]
                target = coefficients[0] * x_0[b, d] + coefficients[1] * x_t[d]
                if t == 1:
                    terms[b, 0] -= log_density(x_0[b, d], mean, log_var)
                else:
                    terms[b, t - 1] += kl(target, log_var_of.small[t], mean, log_var)
                mse[b, t - 1] += (hat - x_0[b, d]) ** 2 / D
                if t == chain.T:
                    prior[b] += kl(signal[t] * x_0[b, d], math.log(var[t]), 0.0, math.log(prior_var))
    return prior, terms, mse
