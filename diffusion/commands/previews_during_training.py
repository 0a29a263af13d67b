"""Evaluation during training: preview grids, estimates of the bound, the gradient noise scale."""

from collections.abc import Callable
from functools import partial
from itertools import islice

import jax
import numpy as np

from diffusion.core import respacing
from diffusion.core.elbo import bits_per_dim
from diffusion.data.dataset_interface import Source
from diffusion.data.toy_points import SHAPE, to_points
from diffusion.evaluation import sample_batches
from diffusion.evaluation.fewer_images_on_cpu import Budget, chain_calls
from diffusion.experiment.build import Experiment
from diffusion.figures.image_grid import image_grid
from diffusion.figures.point_figures import scatter
from diffusion.metrics import colour_drift, mean_and_standard_error
from diffusion.training import gradient_noise_scale, memory_of_a_step
from diffusion.training.batch_feed import Feed
from diffusion.training.state import Params, TrainState

NOISE_SCALE = 2**32 - 1
"""Folded into the training key for the noise scale: no step of training has this number."""

GRID_SIDE = 512
"""Sample grids of small images are enlarged to about this many pixels."""

MOST_COLUMNS = 20

BATCH = "these are {images} images at a time: set a lower config.{key}, which changes no result"


def picture(pixels: np.ndarray, labels: int = 0) -> np.ndarray:
    """Images [N, H, W, C] as one uint8 picture: an enlarged grid, or a scatter plot where the images stand for points.

    With at most MOST_COLUMNS `labels`, which the images have in turn, a grid has one column for each.
    """
    if pixels.shape[1:] == SHAPE:
        return scatter(to_points(pixels), GRID_SIDE)
    return image_grid(pixels, columns=labels if labels <= min(MOST_COLUMNS, len(pixels)) else 0, min_side=GRID_SIDE)


def preview(
    experiment: Experiment, held_out: Source, budget: Budget, report: Callable[[str], None]
) -> Callable[[Params], np.ndarray]:
    """A function of parameters that draws config.sample.n images by a few DDIM steps, as one picture.

    Fewer, but at least 4, where the budget does not allow them. A drift of the colours from those of the data is
    reported.
    """
    c = experiment.config
    steps = min(c.sample.preview_steps, c.diffusion.T)
    grid = respacing.parse(str(steps))
    sampler = experiment.sampler("ddim", grid, eta=0.0)
    n = max(budget.images(c.sample.n, chain_calls(experiment, "ddim", grid)), min(4, c.sample.n))
    batch = experiment.batch(min(c.sample.batch_size, n))
    levels = colour_drift.of_source(held_out)

    def draw(params: Params) -> np.ndarray:
        run = lambda keys, labels: sampler(params, keys, labels).x_0  # noqa: E731
        with memory_of_a_step.advised(BATCH.format(key="sample.batch_size", images=batch)):
            pixels = sample_batches.draw(run, n, batch, c.seed, experiment.classes)
        if line := colour_drift.warning(colour_drift.measure(pixels), levels):
            report(f"WARNING     {line}")
        return picture(pixels, experiment.classes)

    return draw


def estimate(
    experiment: Experiment, held_out: Source, feed: Feed, budget: Budget
) -> Callable[[TrainState], dict[str, float]]:
    """A function of the state that estimates the bound on held-out images, and the gradient noise scale if configured.

    On config.eval.quick_n images, or fewer, but at least 4, where the budget does not allow them.
    """
    c = experiment.config
    steps = min(c.eval.quick_steps, experiment.process.T)
    bound = experiment.estimate(steps)
    most = min(c.eval.quick_n, held_out.size)
    images = np.arange(max(budget.images(most, steps), min(4, most)))
    batch = experiment.batch(min(c.eval.batch_size, len(images)))
    noise = gradient_noise(experiment, feed) if c.eval.noise_scale else None

    def evaluate(state: TrainState) -> dict[str, float]:
        with memory_of_a_step.advised(BATCH.format(key="eval.batch_size", images=batch)):
            columns = lambda *batch: bound(state.ema, *batch)[:, None]  # noqa: E731
            nats = mean_and_standard_error.measure(columns, held_out, images, batch, c.seed)
        size = int(np.prod(experiment.shape))
        mean, error = (float(bits_per_dim(x[0], size)) for x in (nats.mean, nats.error))
        spread = {"standard_error": error} if len(images) > 1 else {}
        return {"bits_per_dim": mean, **spread, **(noise(state) if noise else {})}

    return evaluate


def gradient_noise(experiment: Experiment, feed: Feed) -> Callable[[TrainState], dict[str, float]]:
    """The gradient noise scale at the raw parameters, from the next training batches with noise of their own."""
    measure = jax.jit(partial(gradient_noise_scale.measure, experiment.task(), feed.gather))

    def noise(state: TrainState) -> dict[str, float]:
        batches = feed.stack(list(islice(feed.batches(int(state.step)), experiment.config.eval.noise_scale_batches)))
        trace, square = map(float, measure(state, jax.random.fold_in(state.key, NOISE_SCALE), feed.data, batches))
        return {"noise_scale": gradient_noise_scale.ratio(trace, square), "grad_trace": trace, "grad_square": square}

    return noise
