"""Why a reverse step may be a Gaussian: p(x_{u-du} | x_u) against its limit. Nakkiran et al. 2024, Fact 1 and Claim 1.

In one dimension and with sigma_q = 1: x_u = x_{u-du} + N(0, du), x_0 a mixture of Gaussians, everything by quadrature.

    p(x_{u-du} | x_u = z) -> N(z + du d/dz log p_u(z), du)   as du falls

The mean is exact for every du (Tweedie's formula). The variance is du + du^2 d2/dz2 log p_u(z), so that the divergence
falls as du^2: KL -> (du d2/dz2 log p_u(z))^2 / 4.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffusion.figures.style import PAGE, axes, line, plot_curves

WIDE, FINE = 12.0, 20_001
"""Standard deviations on either side, and points, of a quadrature."""


class Mixture(NamedTuple):
    """x_0 ~ sum_k weight[k] N(mean[k], std[k]^2), of numbers."""

    weight: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def log_density(self, x: np.ndarray, u: float) -> np.ndarray:
        """log p_u(x), of x_0 + N(0, u)."""
        var = self.std**2 + u
        parts = np.log(self.weight) - 0.5 * ((x[..., None] - self.mean) ** 2 / var + np.log(2 * np.pi * var))
        return np.logaddexp.reduce(parts, axis=-1)

    def score(self, x: float, u: float) -> float:
        """d/dx log p_u(x)."""
        var = self.std**2 + u
        log_parts = np.log(self.weight) - 0.5 * ((x - self.mean) ** 2 / var + np.log(var))
        share = np.exp(log_parts - np.logaddexp.reduce(log_parts))
        return float(np.sum(share * (self.mean - x) / var))


EXAMPLE = Mixture(np.array([0.6, 0.4]), np.array([-0.6, 0.7]), np.array([0.15, 0.25]))
TIME, VALUE = 0.25, 0.1
"""u and z of the figure: the reverse step starts at x_u = z."""


class Conditional(NamedTuple):
    """p(x_{u-du} | x_u = z) and its limit, on a grid of s = (x - z - du score) / sqrt(du)."""

    s: np.ndarray
    log_density: np.ndarray
    """Of s."""
    log_limit: np.ndarray
    """Of a standard normal."""

    def kl(self) -> float:
        """KL(p || limit) in nats."""
        return float((self.s[1] - self.s[0]) * np.sum(np.exp(self.log_density) * (self.log_density - self.log_limit)))


def conditional(mixture: Mixture, z: float, u: float, du: float) -> Conditional:
    """The law of x_{u-du} given x_u = z, by Bayes' rule. Raises ValueError unless 0 < du <= u."""
    if not 0 < du <= u:
        raise ValueError(f"du = {du:g}: a step back from u = {u:g} must lie above 0 and reach 0 at most")
    s = np.linspace(-WIDE, WIDE, FINE)
    x = z + du * mixture.score(z, u) + np.sqrt(du) * s
    joint = mixture.log_density(x, u - du) - 0.5 * ((z - x) ** 2 / du + np.log(2 * np.pi * du))
    log_density = joint - mixture.log_density(np.array([z]), u) + 0.5 * np.log(du)
    return Conditional(s, log_density, -0.5 * (s**2 + np.log(2 * np.pi)))


def reverse_conditional(mixture: Mixture, z: float, u: float, shown: Sequence[float], steps: Sequence[float]) -> Any:
    """A Figure: the densities for the du of `shown` beside their limit, and KL against du for those of `steps`."""
    figure, (left, right) = axes(2, width=PAGE)
    cuts = {du: conditional(mixture, z, u, du) for du in (*shown, *steps)}
    first = cuts[shown[0]]
    near = np.abs(first.s) <= 4
    densities = {"Gaussian": first.log_limit} | {f"$du = {du:g}$": cuts[du].log_density for du in shown}
    plot_curves(left, {label: (first.s[near], np.exp(values[near])) for label, values in densities.items()})
    label = r"$(x - z - du\,\nabla\log p_u(z))\,/\,\sqrt{du}$"
    left.set(xlabel=label, ylabel="density of $x_{u-du}$ given $x_u = z$", ylim=(0, None))
    kl = np.array([cuts[du].kl() for du in steps])
    right.plot(steps, kl, **line(0), label="from the Gaussian")
    ends = np.array([min(steps), max(steps)])
    right.plot(ends, kl[int(np.argmin(steps))] * (ends / ends[0]) ** 2, **line(1, marked=False), label="slope 2")
    right.set(xscale="log", yscale="log", xlabel="$du$", ylabel="KL, nats")
    right.legend()
    return figure
