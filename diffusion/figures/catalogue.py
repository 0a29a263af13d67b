"""The catalogue of figures: the name of each, and how it is drawn from `Inputs`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from diffusion.core import respacing, schedules
from diffusion.data.toy_points import to_points
from diffusion.data.user_images import LabelledImages, random_images, random_pairs, read_mask
from diffusion.figures import (
    curve_figures,
    image_grid,
    point_figures,
    progressive_and_edit_figures,
    reverse_step_is_gaussian_figure,
    training_figures,
)
from diffusion.figures import edit_images_with_run as edits
from diffusion.figures.figure_data import curve_data
from diffusion.figures.figure_data import samples_from_run as arrays
from diffusion.figures.figure_data.curve_data import SAMPLER_NAMES
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.figures.reverse_step_is_gaussian_figure import EXAMPLE, TIME, VALUE
from diffusion.metrics import rate_distortion as compression
from diffusion.planning import report_csv
from diffusion.training import compare_with_recorded_curve
from diffusion.workdir import metrics_jsonl_files
from diffusion.workdir.run_config import read_run


def _curves(inputs: Inputs) -> Any:
    runs = curve_data.runs(inputs.folder)
    folders = metrics_jsonl_files.runs(inputs.folder)
    configs = (read_run(path).config for path in folders if (path / "config.json").exists())
    band = next(filter(None, map(compare_with_recorded_curve.recorded, configs)), None)
    return training_figures.curves(runs, band)


def _interpolate(inputs: Inputs, n: int, fractions: list[float]) -> Any:
    """Mixtures of n held-out pairs at fractions of T. Both of a pair have one class where the network has classes."""
    run_sampler = inputs.sampler()
    pairs = random_pairs(inputs.data.held_out, n, inputs.seed, same_class=run_sampler.experiment.classes > 0)
    return edits.interpolate(run_sampler, *pairs, edits.shares(), fractions)[0]


def _held_out(inputs: Inputs, n: int) -> LabelledImages:
    return random_images(inputs.data.held_out, inputs.n or n, inputs.seed)


def _inpainting(inputs: Inputs) -> Any:
    run_sampler = inputs.sampler()
    known = read_mask("bottom", run_sampler.experiment.shape)
    return edits.inpaint(run_sampler, _held_out(inputs, 6), known, edits.DRAWS, resamplings=4, jump=1)[0]


def _variations(inputs: Inputs) -> Any:
    return edits.vary(inputs.sampler(), _held_out(inputs, 3), edits.DRAWS, (0.25, 0.5, 0.75))[0]


def _neighbours(inputs: Inputs) -> Any:
    drawn = inputs.sampler().samples(inputs.n or 8)
    return progressive_and_edit_figures.neighbours(drawn, arrays.nearest_images(inputs.data.train, drawn, 8))


def _rate_distortion(inputs: Inputs) -> Any:
    bound = curve_data.bounds(inputs.folder, inputs.step)[0]
    return curve_figures.rate_distortion(
        *compression.curve(bound.values["L_T"], bound.series["terms"], bound.series["x_0_rmse"])
    )


def _posterior_variance(_: Inputs) -> Any:
    lengths = (100, 1000, 4000)
    return curve_figures.posterior_variance({f"T = {T}": schedules.linear(T, 0.1 / T, 20 / T) for T in lengths})


def _reverse_conditional(_: Inputs) -> Any:
    step_sizes = [0.25 * 0.5**i for i in range(9)]
    return reverse_step_is_gaussian_figure.reverse_conditional(EXAMPLE, VALUE, TIME, step_sizes[:6:2], step_sizes)


def _speed_by_chips(_: Inputs) -> Any:
    programs = partial(report_csv.where, paper="cifar10", what="train", sharding="replicated", change="")
    return curve_figures.speed_by_chips(programs(model="tpu:v5e", dtype="bfloat16"), programs(model="tpu:v3")[0])


def _point_data(inputs: Inputs) -> tuple[arrays.RunSampler, np.ndarray]:
    """The network of a run of points, and held-out points."""
    run_sampler, source = inputs.sampler(points=True), inputs.data.held_out
    return run_sampler, to_points(source.read(np.arange(min(inputs.n or 2000, source.size)))[0])


def _marginals(inputs: Inputs) -> Any:
    run_sampler, data = _point_data(inputs)
    ts = run_sampler.steps((0.0, 0.05, 0.1, 0.25, 0.5, 1.0))
    reverse = arrays.chain_points(run_sampler, len(data), ts[::-1])[::-1]
    return point_figures.marginals(
        arrays.noised_points(run_sampler, data, ts), reverse, run_sampler.full_chain_steps(ts)
    )


def _trajectories(inputs: Inputs) -> Any:
    run_sampler, data = _point_data(inputs)
    ts, n = range(run_sampler.process.T, -1, -1), inputs.n or 7
    paths = {SAMPLER_NAMES[name]: arrays.chain_points(run_sampler, n, ts, name) for name in ("ancestral", "ddim")}
    return point_figures.trajectories(paths, data)


def _score_field(inputs: Inputs) -> Any:
    run_sampler, data = _point_data(inputs)
    ts = run_sampler.steps((0.05, 0.15, 0.3, 0.6), lowest=1)
    vectors = arrays.score_vectors(run_sampler, point_figures.arrow_origins(), ts)
    return point_figures.score_field(
        vectors, arrays.noised_points(run_sampler, data, ts), run_sampler.full_chain_steps(ts)
    )


def _samplers(inputs: Inputs) -> Any:
    run_sampler, data = _point_data(inputs)
    lengths = (5, 20)
    grids = [respacing.parse(str(n)) for n in lengths]
    clouds = {
        label: [arrays.chain_points(run_sampler, len(data), [0], name, grid)[0] for grid in grids]
        for name, label in SAMPLER_NAMES.items()
    }
    return point_figures.samplers(clouds, lengths, data)


def _animation(inputs: Inputs, frames: int = 40) -> Any:
    run_sampler, data = _point_data(inputs)
    ts = run_sampler.steps([1 - i / (frames - 1) for i in range(frames)])
    return point_figures.animation(arrays.chain_points(run_sampler, len(data), ts))


FIGURES: dict[str, Callable[[Inputs], Any]] = {
    "loss": lambda inputs: training_figures.loss(curve_data.metrics(inputs.folder), inputs.folder.resolve().name),
    "curves": _curves,
    "samples": lambda inputs: image_grid.image_figure(image_grid.square(inputs.sampler().samples(inputs.n or 64))),
    "progressive": lambda inputs: progressive_and_edit_figures.progressive(
        *inputs.sampler().progressive(inputs.n or 8, columns=11)
    ),
    "forks": lambda inputs: progressive_and_edit_figures.forks(
        *inputs.sampler().forks(inputs.n or 4, ends=3, fractions=(1.0, 0.75, 0.5, 0.25))
    ),
    "interpolation": lambda inputs: _interpolate(inputs, inputs.n or 6, inputs.fractions),
    "coarse_to_fine": lambda inputs: _interpolate(inputs, 1, [i / 8 for i in range(8, -1, -1)]),
    "inpainting": _inpainting,
    "variations": _variations,
    "neighbours": _neighbours,
    "rate_distortion": _rate_distortion,
    "terms": lambda inputs: curve_figures.terms(curve_data.terms(curve_data.bounds(inputs.folder, inputs.step))),
    "steps": lambda inputs: curve_figures.steps(*curve_data.scores(inputs.folder)),
    "guidance": lambda inputs: curve_figures.guidance(*curve_data.guidance(inputs.folder, inputs.step)),
    "marginals": _marginals,
    "trajectories": _trajectories,
    "score_field": _score_field,
    "samplers": _samplers,
    "animation": _animation,
    "posterior_variance": _posterior_variance,
    "schedules": lambda _: curve_figures.alpha_bar(
        {"linear": schedules.linear(1000), "cosine": schedules.cosine(1000)}
    ),
    "reverse_conditional": _reverse_conditional,
    "speed_by_chips": _speed_by_chips,
}
"""Name -> what draws it from the inputs, in the order in which `all` draws them.

Each raises ValueError, in one line with what to do, where an input is missing.
"""
