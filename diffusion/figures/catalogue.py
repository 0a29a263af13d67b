"""The catalogue of figures: the name of each, how it is drawn from `Inputs`, and the files that it can be."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffusion.core import respacing, schedules
from diffusion.figures.alpha_bar import alpha_bar
from diffusion.figures.animation import animation
from diffusion.figures.arrays import figure_data
from diffusion.figures.bound_terms import terms
from diffusion.figures.figure_inputs import Inputs, Request
from diffusion.figures.forked_chains import forks
from diffusion.figures.guidance import guidance
from diffusion.figures.image_variations import variations
from diffusion.figures.inpainting import inpainting
from diffusion.figures.interpolation import interpolation
from diffusion.figures.loss import loss
from diffusion.figures.marginals import marginals
from diffusion.figures.neighbours import neighbours
from diffusion.figures.panel import panel, square
from diffusion.figures.posterior_variance import posterior_variance
from diffusion.figures.progressive import progressive
from diffusion.figures.quality_by_steps import steps
from diffusion.figures.rate_distortion import rate_distortion
from diffusion.figures.reverse_conditional import EXAMPLE, TIME, VALUE, reverse_conditional
from diffusion.figures.samplers import samplers
from diffusion.figures.score_field import arrow_origins, score_field
from diffusion.figures.style import SUFFIXES
from diffusion.figures.trajectories import trajectories
from diffusion.metrics import rate_distortion as compression

__all__ = ["FIGURES", "FigureSpec", "Inputs", "Request"]

COLUMNS = 11
"""Progressive generation: x_0_hat at ten steps, and the sample."""
FORK_TIMES, FORK_ENDS = (1.0, 0.75, 0.5, 0.25), 3
"""Fractions of T at which chains fork, and samples around each x_t."""
NEAREST = 8
"""Training images beside each sample."""
LAM = tuple(round(i / 10, 1) for i in range(11))
COARSE_TO_FINE = tuple(i / 8 for i in range(8, -1, -1))
"""Shares of the second image in a mixture, and fractions of T at which images are mixed."""
HIDDEN_PART, RESAMPLINGS = "bottom", 4
"""The part of an image that inpainting completes, and how often it takes each step."""
VARIATION_TIMES = (0.25, 0.5, 0.75)
DRAWS = 8
"""Completions or variations of each image."""
CHAIN_LENGTHS = (100, 1000, 4000)
"""T of the processes whose beta_tilde / beta is drawn."""
POINTS, PATHS = 2000, 7
"""Points of a point cloud, and trajectories."""
MARGINAL_TIMES, SCORE_TIMES = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0), (0.05, 0.15, 0.3, 0.6)
"""Fractions of T at which marginals and scores are drawn."""
SAMPLER_NAMES = {"ancestral": "ancestral", "ddim": "DDIM", "dpm_solver": "DPM-Solver++", "heun": "Heun"}
FEW_STEPS = (5, 20)
"""Samplers that are compared, and their numbers of steps."""
FRAMES = 40
STEP_SIZES = tuple(0.25 * 0.5**i for i in range(9))
"""Step sizes at which the true reverse conditional is compared with its Gaussian limit."""

# Modules that import jax are imported inside the functions, after `Inputs` has set up the compiler.


def _interpolate(inputs: Inputs, n: int, fractions: Sequence[float]) -> tuple[Any, Any, np.ndarray, list[int]]:
    """Both images of n held-out pairs, their mixtures at fractions of T, and the steps."""
    run_sampler = inputs.image_sampler

    from diffusion.figures.arrays import edits, user_images

    same_class = run_sampler.experiment.classes > 0
    first, second = user_images.random_pairs(inputs.source(train=False), n, inputs.request.seed, same_class)
    return first.pixels, second.pixels, *edits.interpolate(run_sampler, first, second, LAM, fractions)


def _interpolation(inputs: Inputs) -> Any:
    T, t = inputs.run.config.diffusion.T, inputs.request.t
    if t is not None and not 0 <= t <= T:
        raise ValueError(f"--t={t}: a step of this run lies in 0..{T}")
    first, second, mixtures, (step,) = _interpolate(inputs, inputs.count(6), [0.5 if t is None else t / T])
    return interpolation(first, second, mixtures[0], LAM, [f"t = {step}"])


def _coarse_to_fine(inputs: Inputs) -> Any:
    first, second, mixtures, ts = _interpolate(inputs, 1, COARSE_TO_FINE)
    first, second = (np.broadcast_to(x, (len(ts), *x.shape[1:])) for x in (first, second))
    return interpolation(first, second, mixtures[:, 0], LAM, [f"t = {t}" for t in ts])


def _inpainting(inputs: Inputs) -> Any:
    run_sampler = inputs.image_sampler

    from diffusion.figures.arrays import edits, user_images

    originals = user_images.random_images(inputs.source(train=False), inputs.count(6), inputs.request.seed)
    known = user_images.named_mask(HIDDEN_PART, run_sampler.experiment.shape)
    completed = edits.inpaint(run_sampler, originals, known, DRAWS, RESAMPLINGS)
    return inpainting(originals.pixels, np.broadcast_to(known, (len(completed), *known.shape)), completed)


def _variations(inputs: Inputs) -> Any:
    run_sampler = inputs.image_sampler

    from diffusion.figures.arrays import edits, user_images

    originals = user_images.random_images(inputs.source(train=False), inputs.count(3), inputs.request.seed)
    return variations(originals.pixels, *edits.vary(run_sampler, originals, DRAWS, VARIATION_TIMES))


def _neighbours(inputs: Inputs) -> Any:
    drawn = inputs.image_sampler.samples(inputs.count(8))

    from diffusion.figures.arrays.run_sampler import nearest_images

    return neighbours(drawn, nearest_images(inputs.source(train=True), drawn, NEAREST))


def _rate_distortion(inputs: Inputs) -> Any:
    bound = figure_data.bounds(inputs.folder, inputs.request.step)[0]
    return rate_distortion(*compression.curve(bound.values["L_T"], bound.series["terms"], bound.series["x_0_rmse"]))


def _posterior_variance(inputs: Inputs) -> Any:  # noqa: ARG001
    tables = {T: schedules.linear(T, 1e-4 * 1000 / T, 0.02 * 1000 / T) for T in CHAIN_LENGTHS}
    return posterior_variance({f"T = {T}": table for T, table in tables.items()})


def _point_data(inputs: Inputs) -> tuple[Any, Any, np.ndarray]:
    """The module of arrays of points, the network of a run of points, and held-out points."""
    run_sampler = inputs.point_sampler

    from diffusion.figures.arrays import point_samples

    return point_samples, run_sampler, point_samples.data_points(inputs.source(train=False), inputs.count(POINTS))


def _marginals(inputs: Inputs) -> Any:
    arrays, run_sampler, data = _point_data(inputs)
    ts = run_sampler.steps(MARGINAL_TIMES)
    reverse = arrays.chain_points(run_sampler, len(data), ts[::-1])[::-1]
    return marginals(arrays.noised_points(run_sampler, data, ts), reverse, run_sampler.full_chain_steps(ts))


def _trajectories(inputs: Inputs) -> Any:
    arrays, run_sampler, data = _point_data(inputs)
    ts, n = range(run_sampler.process.T, -1, -1), inputs.count(PATHS)
    paths = {SAMPLER_NAMES[name]: arrays.chain_points(run_sampler, n, ts, name) for name in ("ancestral", "ddim")}
    return trajectories(paths, data)


def _score_field(inputs: Inputs) -> Any:
    arrays, run_sampler, data = _point_data(inputs)
    ts = run_sampler.steps(SCORE_TIMES, lowest=1)
    vectors = arrays.score_vectors(run_sampler, arrow_origins(), ts)
    return score_field(vectors, arrays.noised_points(run_sampler, data, ts), run_sampler.full_chain_steps(ts))


def _samplers(inputs: Inputs) -> Any:
    arrays, run_sampler, data = _point_data(inputs)
    grids = [respacing.parse(str(n)) for n in FEW_STEPS]
    clouds = {
        label: [arrays.chain_points(run_sampler, len(data), [0], name, grid)[0] for grid in grids]
        for name, label in SAMPLER_NAMES.items()
    }
    return samplers(clouds, FEW_STEPS, data)


def _animation(inputs: Inputs) -> Any:
    arrays, run_sampler, data = _point_data(inputs)
    ts = run_sampler.steps([1 - i / (FRAMES - 1) for i in range(FRAMES)])
    return animation(arrays.chain_points(run_sampler, len(data), ts))


class FigureSpec(NamedTuple):
    """How a figure is drawn, and the kinds of file that it can be."""

    draw: Callable[[Inputs], Any]
    """Inputs -> a matplotlib Figure. Raises ValueError, in one line with what to do, where an input is missing."""
    of_run: bool = True
    """Whether it is drawn from a run."""
    kinds: tuple[str, ...] = SUFFIXES
    """Suffixes of its files; the first two are written by default."""


FIGURES: dict[str, FigureSpec] = {
    "loss": FigureSpec(lambda inputs: loss(figure_data.metrics(inputs.folder), inputs.folder.resolve().name)),
    "samples": FigureSpec(lambda inputs: panel(square(inputs.image_sampler.samples(inputs.count(64))))),
    "progressive": FigureSpec(lambda inputs: progressive(*inputs.image_sampler.progressive(inputs.count(8), COLUMNS))),
    "forks": FigureSpec(lambda inputs: forks(*inputs.image_sampler.forks(inputs.count(4), FORK_ENDS, FORK_TIMES))),
    "interpolation": FigureSpec(_interpolation),
    "coarse_to_fine": FigureSpec(_coarse_to_fine),
    "inpainting": FigureSpec(_inpainting),
    "variations": FigureSpec(_variations),
    "neighbours": FigureSpec(_neighbours),
    "rate_distortion": FigureSpec(_rate_distortion),
    "terms": FigureSpec(
        lambda inputs: terms(figure_data.terms(figure_data.bounds(inputs.folder, inputs.request.step)))
    ),
    "steps": FigureSpec(lambda inputs: steps(*figure_data.scores(inputs.folder))),
    "guidance": FigureSpec(lambda inputs: guidance(*figure_data.guidance(inputs.folder, inputs.request.step))),
    "marginals": FigureSpec(_marginals),
    "trajectories": FigureSpec(_trajectories),
    "score_field": FigureSpec(_score_field),
    "samplers": FigureSpec(_samplers),
    "animation": FigureSpec(_animation, kinds=(".gif",)),
    "posterior_variance": FigureSpec(_posterior_variance, of_run=False),
    "schedules": FigureSpec(
        lambda _: alpha_bar({"linear": schedules.linear(1000), "cosine": schedules.cosine(1000)}), of_run=False
    ),
    "reverse_conditional": FigureSpec(
        lambda _: reverse_conditional(EXAMPLE, VALUE, TIME, STEP_SIZES[:6:2], STEP_SIZES), of_run=False
    ),
}
"""In the order in which `all` draws them."""
