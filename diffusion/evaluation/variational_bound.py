"""The variational bound of a run, step by step: DDPM equation 5, and the rate-distortion table of its section 4.3."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Array, Image, Keys, Labels
from diffusion.core.elbo import Bound, bits_per_dim
from diffusion.core.respacing import Grid
from diffusion.evaluation.measure_likelihood import Likelihood
from diffusion.experiment.build import Experiment
from diffusion.metrics import rate_distortion
from diffusion.metrics.mean_and_standard_error import Means
from diffusion.training.state import Params
from diffusion.workdir.result_files import Result, plus_minus


@jax.jit
def bound_columns(bound: Bound) -> Array:
    """[n, 2 T + 3]: L_T, the sum of L_{t-1} over t > 1, the total, every term, every squared error of x_0_hat."""
    steps = bound.terms[:, 1:].sum(axis=1)
    head = jnp.stack([bound.prior, steps, bound.total], axis=1)
    return jnp.concatenate([head, bound.terms, bound.x_0_mse], axis=1)


def summary(means: Means, dims: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Values and series of a bound, in bits/dim, from the means of `bound_columns` of images of so many dimensions.

        bits_per_dim       L_T + L_steps + L_0; standard_error: of this sum, over images
        L_T, L_steps, L_0  the prior's term, the sum of L_{t-1} over t > 1, the decoder's; each with a standard error
        rate, distortion   L_T + L_steps, sent before the last step, and L_0: 1.78 and 1.97 on CIFAR-10 (DDPM, 4.3)
        rmse               root mean squared error of x_0_hat at t = 1, in pixel levels 0..255

    Entry t - 1 of the series terms, their standard errors and x_0_rmse is that of step t.
    """
    T = (len(means.mean) - 3) // 2
    mean, error = (bits_per_dim(values[: T + 3], dims) for values in (means.mean, means.error))
    prior, terms, x_0_rmse = mean[0], mean[3:], 127.5 * np.sqrt(means.mean[T + 3 :])
    values = {
        "bits_per_dim": prior + terms.sum(),
        "standard_error": error[2],
        "L_T": prior,
        "L_steps": terms[1:].sum(),
        "L_0": terms[0],
        "L_T_standard_error": error[0],
        "L_steps_standard_error": error[1],
        "L_0_standard_error": error[3],
        "rate": prior + terms[1:].sum(),
        "distortion": terms[0],
        "rmse": x_0_rmse[0],
    }
    series = {"terms": terms, "terms_standard_error": error[3:], "x_0_rmse": x_0_rmse}
    numbers = {name: float(value) for name, value in values.items()} | {"images": means.images}
    return numbers, {name: list(map(float, entries)) for name, entries in series.items()}


def _columns(experiment: Experiment, grid: Grid) -> Callable[[Params, Keys, Image, Labels], Array]:
    bound = experiment.bound(grid)
    return lambda *batch: bound_columns(bound(*batch))


def lines(result: Result) -> list[str]:
    """A bound for a console report: the total, its parts, and the rate-distortion table."""
    v = result.values
    split, images = result.protocol["split"], result.protocol["images"]

    def term(name: str, digits: int) -> str:
        return f"{v[name]:.{digits}f}{plus_minus(v[f'{name}_standard_error'], '.2g')}"

    error = plus_minus(v["standard_error"], ".4f")
    return [
        f"nll         {v['bits_per_dim']:.4f}{error} bits/dim on {images} {split} images",
        f"  L_T                {term('L_T', 6)}",
        f"  sum of L_t-1       {term('L_steps', 4)}",
        f"  L_0                {term('L_0', 4)}",
        f"  rate + distortion  {v['rate']:.4f} + {v['distortion']:.4f}, RMSE {v['rmse']:.3f} of 255",
        *rate_distortion.lines(v["L_T"], result.series["terms"], result.series["x_0_rmse"]),
    ]


BOUND = Likelihood("nll", _columns, summary, lines)
"""x_0_hat is clipped as config.sample.clip says."""
