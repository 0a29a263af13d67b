"""The likelihood of a run's probability flow, by Hutchinson's estimate of its divergence."""

from collections.abc import Callable

from diffusion.core import flow_likelihood
from diffusion.core.array_types import Array, Image, Keys, Labels
from diffusion.core.elbo import bits_per_dim
from diffusion.core.respacing import Grid
from diffusion.distributed import global_arrays, sharding
from diffusion.evaluation.measure_likelihood import Likelihood
from diffusion.experiment.build import Experiment
from diffusion.metrics.mean_and_standard_error import Means
from diffusion.training.state import Params
from diffusion.workdir.result_files import Result, plus_minus


def columns(experiment: Experiment, grid: Grid) -> Callable[[Params, Keys, Image, Labels], Array]:
    """A jitted (params, keys, x_0, labels) -> -log P(x_0) in nats by the flow on a grid, [n, 1]; x_0 is dequantised
    uniformly. A flow must be smooth: x_0_hat is not clipped."""
    process = experiment.sampled(grid)

    def run(params: Params, keys: Keys, x_0: Image, labels: Labels) -> Array:
        denoise = experiment.denoise(params, labels, clip=False)
        return flow_likelihood.nll(keys, process, denoise, x_0)[:, None]

    return global_arrays.ByRows(run, sharding.split_axis(experiment.mesh))


def _summary(means: Means, dims: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The error is that of the mean over images; it includes the errors of dequantisation and probes."""
    bits, error = (float(bits_per_dim(column[0], dims)) for column in (means.mean, means.error))
    return {"bits_per_dim": bits, "standard_error": error, "images": means.images}, {}


def lines(result: Result) -> list[str]:
    """The likelihood for a console report."""
    v, facts = result.values, result.protocol
    error = plus_minus(v["standard_error"], ".4f")
    bits = f"{v['bits_per_dim']:.4f}{error} bits/dim on {facts['images']} {facts['split']} images"
    return [f"flow_nll    {bits}, dequantised, by the probability flow of {facts['steps']} steps"]


FLOW = Likelihood(
    "flow_nll",
    columns,
    _summary,
    lines,
    {"clip": False, "dequantisation": "uniform", "solver": "Heun on the grid, from t = 1", "probes": 1},
)
