"""The variational bound of a data set, averaged over its images."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.elbo import Bound, bits_per_dim
from diffusion.core.types import Array
from diffusion.metrics.image_means import Means


class Likelihood(NamedTuple):
    """The bound of a data set, averaged over images, in bits/dim except x_0_rmse. Errors are standard errors."""

    images: int
    total: float
    """prior + the sum of `terms`."""
    standard_error: float
    """Of `total`, over images."""
    prior: float
    """L_T."""
    steps: float
    """sum of L_{t-1} over t > 1."""
    decoder: float
    """L_0."""
    terms: np.ndarray
    """[T]: entry t - 1 is the term of step t."""
    x_0_rmse: np.ndarray
    """[T]: root mean squared error of x_0_hat at step t = entry + 1, in pixel levels 0..255."""
    prior_error: float = float("nan")
    steps_error: float = float("nan")
    decoder_error: float = float("nan")
    terms_error: np.ndarray = np.zeros(0)
    """[T], like `terms`."""

    @property
    def rate(self) -> float:
        """Bits/dim sent before the last step: L_1 + ... + L_T. DDPM section 4.3: 1.78 on CIFAR-10."""
        return self.prior + self.steps

    @property
    def distortion(self) -> float:
        """Bits/dim of the last step, L_0. DDPM section 4.3: 1.97 on CIFAR-10."""
        return self.decoder

    def report(self) -> dict[str, float]:
        """The scalars, for a JSON file or a log line."""
        return {
            "bits_per_dim": self.total,
            "standard_error": self.standard_error,
            "L_T": self.prior,
            "L_steps": self.steps,
            "L_0": self.decoder,
            "L_T_standard_error": self.prior_error,
            "L_steps_standard_error": self.steps_error,
            "L_0_standard_error": self.decoder_error,
            "rate": self.rate,
            "distortion": self.distortion,
            "rmse": float(self.x_0_rmse[0]),
            "images": self.images,
        }

    def series(self) -> dict[str, list[float]]:
        """The values of each step t = entry + 1, for a JSON file."""
        series = {"terms": self.terms, "terms_standard_error": self.terms_error, "x_0_rmse": self.x_0_rmse}
        return {name: [float(value) for value in values] for name, values in series.items()}


@jax.jit
def bound_columns(bound: Bound) -> Array:
    """[n, 2 T + 3]: L_T, the sum of L_{t-1} over t > 1, the total, every term, every squared error of x_0_hat."""
    steps = bound.terms[:, 1:].sum(axis=1)
    head = jnp.stack([bound.prior, steps, bound.total], axis=1)
    return jnp.concatenate([head, bound.terms, bound.x_0_mse], axis=1)


def of_bound(means: Means, dims: int) -> Likelihood:
    """The bound from the means of `bound_columns`, in nats, of images of so many dimensions."""
    T = (len(means.mean) - 3) // 2
    mean, error = (bits_per_dim(values[: T + 3], dims) for values in (means.mean, means.error))
    terms = mean[3:]
    return Likelihood(
        images=means.images,
        total=float(mean[0] + terms.sum()),
        standard_error=float(error[2]),
        prior=float(mean[0]),
        steps=float(terms[1:].sum()),
        decoder=float(terms[0]),
        terms=terms,
        x_0_rmse=127.5 * np.sqrt(means.mean[T + 3 :]),
        prior_error=float(error[0]),
        steps_error=float(error[1]),
        decoder_error=float(error[3]),
        terms_error=error[3:],
    )
