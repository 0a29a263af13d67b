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

    def log_parts(self, x: np.ndarray | float, u: float) -> np.ndarray:
        """log weight[k] N(x; mean[k], std[k]^2 + u), of every part."""
        var = self.std**2 + u
        distance = np.asarray(x)[..., None] - self.mean
        return np.log(self.weight) - 0.5 * (distance**2 / var + np.log(2 * np.pi * var))

    def log_density(self, x: np.ndarray | float, u: float) -> np.ndarray | float:
        """log p_u(x), of x_0 + N(0, u)."""
        return np.logaddexp.reduce(self.log_parts(x, u), axis=-1)

    def score(self, x: float, u: float) -> float:
        """d/dx log p_u(x)."""
        share = np.exp(self.log_parts(x, u) - self.log_density(x, u))
        return float(np.sum(share * (self.mean - x) / (self.std**2 + u)))


EXAMPLE = Mixture(np.array([0.6, 0.4]), np.array([-0.6, 0.7]), np.array([0.15, 0.25]))
TIME, VALUE = 0.25, 0.1
"""u and z of the figure: the reverse step starts at x_u = z."""


def conditional(mixture: Mixture, z: float, u: float, du: float) -> tuple[np.ndarray, np.ndarray]:
    """p(x_{u-du} | x_u = z) by Bayes' rule, 0 < du <= u: s = (x - z - du score) / sqrt(du), and the log density of s.

    s tends to a standard normal.
    """
    s = np.linspace(-WIDE, WIDE, FINE)
    x = z + du * mixture.score(z, u) + np.sqrt(du) * s
    joint = mixture.log_density(x, u - du) - 0.5 * ((z - x) ** 2 / du + np.log(2 * np.pi * du))
    return s, joint - mixture.log_density(z, u) + 0.5 * np.log(du)


def log_normal(s: np.ndarray) -> np.ndarray:
    """The log density of a standard normal."""
    return -0.5 * (s**2 + np.log(2 * np.pi))


def kl(s: np.ndarray, log_density: np.ndarray) -> float:
    """KL from a standard normal in nats, of a density on an even grid."""
    return float((s[1] - s[0]) * np.sum(np.exp(log_density) * (log_density - log_normal(s))))


def reverse_conditional(mixture: Mixture, z: float, u: float, shown: Sequence[float], steps: Sequence[float]) -> Any:
    """A Figure: the densities for the du of `shown` beside their limit, and KL against du for those of `steps`."""
    figure, (left, right) = axes(2, width=PAGE)
    curves = {f"$du = {du:g}$": conditional(mixture, z, u, du) for du in shown}
    s, _ = curves[f"$du = {shown[0]:g}$"]
    near = np.abs(s) <= 4
    curves = {"Gaussian": (s, log_normal(s))} | curves
    plot_curves(left, {label: (s[near], np.exp(values[near])) for label, (s, values) in curves.items()})
    label = r"$(x - z - du\,\nabla\log p_u(z))\,/\,\sqrt{du}$"
    left.set(xlabel=label, ylabel="density of $x_{u-du}$ given $x_u = z$", ylim=(0, None))
    far = np.array([kl(*conditional(mixture, z, u, du)) for du in steps])
    right.plot(steps, far, **line(0), label="from the Gaussian")
    ends = np.array([min(steps), max(steps)])
    right.plot(ends, far[int(np.argmin(steps))] * (ends / ends[0]) ** 2, **line(1, marked=False), label="slope 2")
    right.set(xscale="log", yscale="log", xlabel="$du$", ylabel="KL, nats")
    right.legend()
    return figure
