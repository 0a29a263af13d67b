"""Every figure by its name: what is drawn, from what."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffusion.core import respacing, schedules
from diffusion.figures import reverse_conditional as looking_back
from diffusion.figures.alpha_bar import alpha_bar
from diffusion.figures.animation import animation
from diffusion.figures.arrays import recorded
from diffusion.figures.forks import forks
from diffusion.figures.guidance import guidance
from diffusion.figures.inpainting import inpainting
from diffusion.figures.inputs import Inputs, Request
from diffusion.figures.interpolation import interpolation
from diffusion.figures.loss import loss
from diffusion.figures.marginals import marginals
from diffusion.figures.neighbours import neighbours
from diffusion.figures.panel import panel, square
from diffusion.figures.posterior_variance import posterior_variance
from diffusion.figures.progressive import progressive
from diffusion.figures.rate_distortion import rate_distortion
from diffusion.figures.samplers import samplers
from diffusion.figures.score_field import places, score_field
from diffusion.figures.steps import steps
from diffusion.figures.terms import terms
from diffusion.figures.trajectories import trajectories
from diffusion.figures.variations import variations
from diffusion.metrics import rate_distortion as compression

__all__ = ["PLATES", "Inputs", "Plate", "Request"]

COLUMNS = 11
"""Of progressive generation: x_0_hat at ten steps, and the sample."""
ENDS = 3
"""Samples around each x_t."""
NEAREST = 8
FORKS = (1.0, 0.75, 0.5, 0.25)
LAM = tuple(round(i / 10, 1) for i in range(11))
COARSE_TO_FINE = tuple(i / 8 for i in range(8, -1, -1))
HIDDEN, RESAMPLINGS = "bottom", 4
"""What inpainting paints anew, and how often each of its steps is taken."""
VARIED = (0.25, 0.5, 0.75)
DRAWS = 8
"""Completions or variations of each image."""
LENGTHS = (100, 1000, 4000)
"""T of the processes of which beta_tilde / beta is drawn."""
CLOUD = 2000
"""Points in a cloud."""
WAYS = 7
LEVELS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
NOISY = (0.05, 0.15, 0.3, 0.6)
"""Fractions of T at which the score is drawn."""
COMPARED = {"ancestral": "ancestral", "ddim": "DDIM", "dpm_solver": "DPM-Solver++", "heun": "Heun"}
FEW = (5, 20)
"""Steps in which samplers are compared."""
FRAMES = 40
HALVES = tuple(0.25 * 0.5**i for i in range(9))
"""Steps back at which the true conditional is compared with its Gaussian limit."""


def _samples(inputs: Inputs) -> Any:
    return panel(square(inputs.gallery.samples(inputs.count(64))))


def _progressive(inputs: Inputs) -> Any:
    return progressive(*inputs.gallery.progressive(inputs.count(8), COLUMNS))


def _forks(inputs: Inputs) -> Any:
    return forks(*inputs.gallery.forks(inputs.count(4), ENDS, FORKS))


def _pairs(inputs: Inputs, n: int) -> Any:
    gallery = inputs.gallery

    from diffusion.figures.arrays.network import pairs

    return pairs(inputs.source(train=False), n, inputs.request.seed, same_class=gallery.ours.classes > 0)


def _interpolation(inputs: Inputs) -> Any:
    T, t = inputs.run.config.diffusion.T, inputs.request.t
    if t is not None and not 0 <= t <= T:
        raise ValueError(f"--t={t}: a step of this run lies in 0..{T}")
    first, second, labels = _pairs(inputs, inputs.count(6))
    at = 0.5 if t is None else t / T
    (between,), (found,) = inputs.gallery.interpolate((first, second, labels), LAM, [at])
    return interpolation(first, second, between, LAM, [f"t = {found}"])


def _coarse_to_fine(inputs: Inputs) -> Any:
    (first, second, labels), gallery = _pairs(inputs, 1), inputs.gallery
    between, ts = gallery.interpolate((first, second, labels), LAM, COARSE_TO_FINE)
    first, second = (np.broadcast_to(x, (len(ts), *x.shape[1:])) for x in (first, second))
    return interpolation(first, second, between[:, 0], LAM, [f"t = {t}" for t in ts])


def _inpainting(inputs: Inputs) -> Any:
    gallery = inputs.gallery

    from diffusion.figures.arrays import edits, user_images

    some = user_images.some(inputs.source(train=False), inputs.count(6), inputs.request.seed)
    known = user_images.named_mask(HIDDEN, gallery.ours.shape)
    found = edits.inpaint(gallery, some, known, DRAWS, RESAMPLINGS)
    return inpainting(some.pixels, np.broadcast_to(known, (len(found), *known.shape)), found)


def _variations(inputs: Inputs) -> Any:
    gallery = inputs.gallery

    from diffusion.figures.arrays import edits, user_images

    some = user_images.some(inputs.source(train=False), inputs.count(3), inputs.request.seed)
    return variations(some.pixels, *edits.vary(gallery, some, DRAWS, VARIED))


def _neighbours(inputs: Inputs) -> Any:
    drawn = inputs.gallery.samples(inputs.count(8))

    from diffusion.figures.arrays.network import neighbours as nearest

    return neighbours(drawn, nearest(inputs.source(train=True), drawn, NEAREST))


def _rate_distortion(inputs: Inputs) -> Any:
    found = recorded.bounds(inputs.folder, inputs.request.step)[0]
    return rate_distortion(*compression.curve(found.values["L_T"], found.series["terms"], found.series["x_0_rmse"]))


def _terms(inputs: Inputs) -> Any:
    return terms(recorded.terms(recorded.bounds(inputs.folder, inputs.request.step)))


def _loss(inputs: Inputs) -> Any:
    return loss(recorded.metrics(inputs.folder), inputs.folder.resolve().name)


def _steps(inputs: Inputs) -> Any:
    return steps(*recorded.scores(inputs.folder))


def _guidance(inputs: Inputs) -> Any:
    return guidance(*recorded.guidance(inputs.folder, inputs.request.step))


def _posterior_variance(inputs: Inputs) -> Any:  # noqa: ARG001
    scaled = {T: schedules.linear(T, 1e-4 * 1000 / T, 0.02 * 1000 / T) for T in LENGTHS}
    return posterior_variance({f"T = {T}": table for T, table in scaled.items()})


def _schedules(inputs: Inputs) -> Any:  # noqa: ARG001
    return alpha_bar({"linear": schedules.linear(1000), "cosine": schedules.cosine(1000)})


def _clouds(inputs: Inputs) -> tuple[Any, Any, np.ndarray]:
    """The module that draws clouds, the network of a run of points, and held-out points."""
    gallery = inputs.of_points

    from diffusion.figures.arrays import plane

    return plane, gallery, plane.known(inputs.source(train=False), inputs.count(CLOUD))


def _marginals(inputs: Inputs) -> Any:
    plane, gallery, data = _clouds(inputs)
    ts = gallery.steps(LEVELS)
    reverse = plane.path(gallery, len(data), ts[::-1])[::-1]
    return marginals(plane.noised(gallery, data, ts), reverse, gallery.base(ts))


def _trajectories(inputs: Inputs) -> Any:
    plane, gallery, data = _clouds(inputs)
    every = range(gallery.process.T, -1, -1)
    names = ("ancestral", "ddim")
    return trajectories({COMPARED[name]: plane.path(gallery, inputs.count(WAYS), every, name) for name in names}, data)


def _score_field(inputs: Inputs) -> Any:
    plane, gallery, data = _clouds(inputs)
    ts = gallery.steps(NOISY, lowest=1)
    return score_field(plane.field(gallery, places(), ts), plane.noised(gallery, data, ts), gallery.base(ts))


def _samplers(inputs: Inputs) -> Any:
    plane, gallery, data = _clouds(inputs)
    grids = [respacing.parse(str(n)) for n in FEW]
    found = {
        label: [plane.path(gallery, len(data), [0], name, grid)[0] for grid in grids]
        for name, label in COMPARED.items()
    }
    return samplers(found, FEW, data)


def _animation(inputs: Inputs) -> Any:
    plane, gallery, data = _clouds(inputs)
    ts = gallery.steps([1 - i / (FRAMES - 1) for i in range(FRAMES)])
    return animation(plane.path(gallery, len(data), ts))


def _reverse_conditional(inputs: Inputs) -> Any:  # noqa: ARG001
    world, z, u = looking_back.WORLD, looking_back.Z, looking_back.U
    return looking_back.reverse_conditional(world, z, u, HALVES[:6:2], HALVES)


class Plate(NamedTuple):
    """A figure."""

    draw: Callable[[Inputs], Any]
    """The inputs -> a matplotlib Figure. Raises ValueError, in one line with what to do, where something is missing."""
    of_run: bool = True
    """Whether it shows a run, and not theory."""
    kinds: tuple[str, ...] = (".png", ".pdf", ".svg")
    """Endings of the files that it can be; by default it is written as the first two."""


PLATES: dict[str, Plate] = {
    "loss": Plate(_loss),
    "samples": Plate(_samples),
    "progressive": Plate(_progressive),
    "forks": Plate(_forks),
    "interpolation": Plate(_interpolation),
    "coarse_to_fine": Plate(_coarse_to_fine),
    "inpainting": Plate(_inpainting),
    "variations": Plate(_variations),
    "neighbours": Plate(_neighbours),
    "rate_distortion": Plate(_rate_distortion),
    "terms": Plate(_terms),
    "steps": Plate(_steps),
    "guidance": Plate(_guidance),
    "marginals": Plate(_marginals),
    "trajectories": Plate(_trajectories),
    "score_field": Plate(_score_field),
    "samplers": Plate(_samplers),
    "animation": Plate(_animation, kinds=(".gif",)),
    "posterior_variance": Plate(_posterior_variance, of_run=False),
    "schedules": Plate(_schedules, of_run=False),
    "reverse_conditional": Plate(_reverse_conditional, of_run=False),
}
"""In the order in which `all` draws them."""
