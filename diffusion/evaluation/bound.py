"""The variational bound of a run, step by step: DDPM equation 5, and the rate-distortion table of its section 4.3."""

from collections.abc import Callable

from diffusion.core.respacing import Grid
from diffusion.core.types import Array, Image, Keys, Labels
from diffusion.evaluation.likelihood import Likelihood
from diffusion.experiment.build import Experiment
from diffusion.metrics import likelihood, rate_distortion
from diffusion.metrics.image_means import Means
from diffusion.training.state import Params
from diffusion.workdir.results import Result, plus_minus


def _columns(experiment: Experiment, grid: Grid) -> Callable[[Params, Keys, Image, Labels], Array]:
    bound = experiment.bound(grid)
    return lambda *batch: likelihood.bound_columns(bound(*batch))


def _summary(means: Means, dims: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    bound = likelihood.of_bound(means, dims)
    return bound.report(), bound.series()


def lines(result: Result) -> list[str]:
    """A bound for a console report: the total, its parts, and the rate-distortion table."""
    v = result.values
    split, images = result.protocol["split"], result.protocol["images"]

    def term(name: str, digits: int) -> str:
        return f"{v[name]:.{digits}f}{plus_minus(v[f'{name}_standard_error'], '.2g')}"

    error = plus_minus(v["standard_error"], ".4f")
    rows = rate_distortion.table(v["L_T"], result.series["terms"], result.series["x_0_rmse"])
    return [
        f"nll         {v['bits_per_dim']:.4f}{error} bits/dim on {images} {split} images",
        f"  L_T                {term('L_T', 6)}",
        f"  sum of L_t-1       {term('L_steps', 4)}",
        f"  L_0                {term('L_0', 4)}",
        f"  rate + distortion  {v['rate']:.4f} + {v['distortion']:.4f}, RMSE {v['rmse']:.3f} of 255",
        *rate_distortion.lines(rows),
    ]


BOUND = Likelihood("nll", _columns, _summary, lines)
"""x_0_hat is clipped as config.sample.clip says."""
