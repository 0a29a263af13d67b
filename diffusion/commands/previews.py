"""Looks at a run on its way: previews, estimates of the bound, the gradient noise scale."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from diffusion.core import respacing
from diffusion.core.elbo import bits_per_dim
from diffusion.data.source import Source
from diffusion.data.toy import SHAPE, to_points
from diffusion.evaluation import protocol
from diffusion.evaluation.budget import Budget
from diffusion.evaluation.subject import Subject
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import clips
from diffusion.figures.grid import grid
from diffusion.figures.points import scatter
from diffusion.metrics import colour_drift, image_means, samples
from diffusion.training import memory, noise_scale
from diffusion.training.feed import Feed
from diffusion.training.loop import Hooks
from diffusion.training.state import Params, TrainState
from diffusion.workdir import results
from diffusion.workdir.results import Result

NOISE_SCALE = 2**32 - 1
"""Folded into the training key for the noise scale: no step of training has this number."""

GRID_SIDE = 512
"""Sample grids of small images are enlarged to about this many pixels."""

MOST_COLUMNS = 20

BATCH = "out of memory with {images} images at a time; set config.{key} lower: it changes no result"


def _cloud(pixels: np.ndarray) -> np.ndarray:
    return scatter(to_points(pixels), GRID_SIDE)


PICTURES: dict[tuple[int, ...], Callable[[np.ndarray], np.ndarray]] = {SHAPE: _cloud}
"""H, W, C -> how images of it are shown, where that is not as a grid."""


def picture(pixels: np.ndarray, labels: int = 0) -> np.ndarray:
    """Images [N, H, W, C] as one uint8 picture: a grid large enough to look at, or the points that they stand for.

    Where images have so many labels in turn, a grid has one column for each, up to MOST_COLUMNS.
    """
    columns = labels if labels <= min(MOST_COLUMNS, len(pixels)) else 0
    return PICTURES.get(pixels.shape[1:], partial(grid, columns=columns, min_side=GRID_SIDE))(pixels)


def hooks(
    ours: Experiment, held_out: Source, feed: Feed, budget: Budget, folder: Path, say: Callable[[str], None]
) -> Hooks:
    """Cheap looks at the state while training: a DDIM grid, an estimate of the bound, the noise scale if asked for.

    Each is cut down to the budget, but never below 4 images. Estimates go to eval/ in the folder, with their protocol.
    `say` is told where a grid's colours are not those of the data.
    """
    c = ours.config
    preview_steps = min(c.sample.preview_steps, c.diffusion.T)
    preview = ours.sampler("ddim", respacing.parse(str(preview_steps)), eta=0.0)
    n = max(budget.images(c.sample.n, preview_steps), min(4, c.sample.n))
    batch = ours.batch(min(c.sample.batch_size, n))
    steps = min(c.eval.quick_steps, ours.process.T)
    estimate = ours.estimate(steps)
    quick = min(c.eval.quick_n, held_out.size)
    some = np.arange(max(budget.images(quick, steps), min(4, quick)))
    eval_batch = ours.batch(min(c.eval.batch_size, len(some)))

    levels = colour_drift.of_source(held_out)

    def draw(params: Params) -> np.ndarray:
        run = lambda keys, labels: preview(params, keys, labels).x_0  # noqa: E731
        with memory.advised(lambda: BATCH.format(key="sample.batch_size", images=batch)):
            pixels = samples.draw(run, n, batch, c.seed, ours.classes)
        if line := colour_drift.warning(colour_drift.measure(pixels), levels):
            say(f"WARNING     {line}")
        return picture(pixels, ours.classes)

    noise = gradient_noise(ours, feed) if c.eval.noise_scale else lambda state: {}  # noqa: ARG005

    def evaluate(state: TrainState) -> dict[str, float]:
        with memory.advised(lambda: BATCH.format(key="eval.batch_size", images=eval_batch)):
            columns = lambda *batch: estimate(state.ema, *batch)[:, None]  # noqa: E731
            nats = image_means.measure(columns, held_out, some, eval_batch, c.seed)
        mean, error = (float(bits_per_dim(x[0], int(np.prod(ours.shape)))) for x in (nats.mean, nats.error))
        values = {"bits_per_dim": mean, "standard_error": error, **noise(state)}
        if jax.process_index() > 0:
            return values
        facts = protocol.of_run(Subject(ours, state.ema, folder, int(state.step), raw=False)) | {
            "split": "test",
            "images": len(some),
        }
        facts |= {"steps_per_image": steps, "clip": clips(c), "seed": c.seed}
        results.write(folder, Result("estimate", values, {}, facts))
        return values

    return Hooks(draw, evaluate)


def gradient_noise(ours: Experiment, feed: Feed) -> Callable[[TrainState], dict[str, float]]:
    """The gradient noise scale at the raw parameters, from the next training batches with noise of their own."""
    measure = jax.jit(partial(noise_scale.measure, ours.task(), feed.gather))

    def noise(state: TrainState) -> dict[str, float]:
        batches = feed.stack(list(islice(feed.batches(int(state.step)), ours.config.eval.noise_scale_batches)))
        found = measure(state, jax.random.fold_in(state.key, NOISE_SCALE), feed.data, batches)
        return {"noise_scale": float(found.ratio), "grad_trace": float(found.trace), "grad_square": float(found.square)}

    return noise
