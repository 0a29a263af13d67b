"""Arrays that figures of points of the plane show, drawn by the trained network of a run.

Points of step t are returned as scale[t] x_t: x_t itself for variance-preserving processes, and a value of the same
range for variance-exploding ones. Row i of every array depends on the seed and on i alone.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Image, Keys, Labels, normal
from diffusion.core.process import Process, q_sample
from diffusion.core.respacing import Grid
from diffusion.core.score import score
from diffusion.data.source import Source
from diffusion.data.toy_points import to_points
from diffusion.evaluation import sample_batches
from diffusion.experiment.registry import SAMPLERS
from diffusion.figures.figure_data.run_sampler import RunSampler
from diffusion.sampling import sampling_loop
from diffusion.training.state import Params

Points = np.ndarray
"""[..., 2]."""


def data_points(source: Source, n: int) -> Points:
    """[n, 2]: the first n points of a set, or all of them if it has fewer."""
    return to_points(source.read(np.arange(min(n, source.size)))[0])


def noised_points(run_sampler: RunSampler, points: Points, steps: Sequence[int]) -> Points:
    """[S, n, 2]: draws of q(x_t | x_0) at steps 0..T of the chain; a point has the same noise at all steps."""
    process = run_sampler.process
    x_0 = jnp.asarray(points, jnp.float32)
    eps = normal(sampling_loop.image_keys(run_sampler.seed, jnp.arange(len(x_0))), x_0)
    return np.stack([_scaled(process, q_sample(process, x_0, jnp.full(len(x_0), t), eps), t) for t in steps])


def chain_points(
    run_sampler: RunSampler, n: int, steps: Sequence[int], sampler: str = "", grid: Grid | None = None
) -> Points:
    """[S, n, 2]: the points of n chains at falling steps, each 0..T. Sampler and grid default to the config's.

    Chains start as in `RunSampler.samples`; with the config's sampler and grid they end at its first n samples.
    """
    experiment, process = run_sampler.experiment, run_sampler._replace(grid=grid or run_sampler.grid).process
    options = experiment.config.sample
    chosen = SAMPLERS[sampler or options.sampler](process, experiment.process, experiment.variance, options)

    def advance(
        params: Params,
        keys: Keys,
        labels: Labels,
        carry: tuple[Image, sampling_loop.State],
        first: jax.Array,
        last: jax.Array,
    ) -> tuple[Image, sampling_loop.State]:
        return sampling_loop.descend(keys, chosen, experiment.denoise(params, labels, guided=True), *carry, first, last)

    advance = jax.jit(advance)
    keys = sampling_loop.image_keys(run_sampler.seed, jnp.arange(n))
    labels = jnp.asarray(sample_batches.labels(np.arange(n), experiment.classes))
    x_T = sampling_loop.prior_sample(keys, process, experiment.shape)
    carry, current, points = (x_T, chosen.init(x_T)), process.T, []
    for t in steps:
        carry = advance(run_sampler.params, keys, labels, carry, jnp.int32(current), jnp.int32(t))
        current = t
        points.append(_scaled(process, carry[0].reshape(n, 2), t))
    return np.stack(points)


def score_vectors(run_sampler: RunSampler, points: Points, steps: Sequence[int]) -> Points:
    """[S, n, 2]: noise[t] grad log q(x_t) of the network at scale[t] x_t = `points`, in units of a standard normal's.

    x_0_hat is not clipped, since the score of a clipped prediction is no gradient. A class-conditional network gets
    class 0.
    """
    experiment, process = run_sampler.experiment, run_sampler.process
    labels = jnp.zeros(len(points), jnp.int32)

    @jax.jit
    def scores(params: Params, x: Image, t: jax.Array) -> jax.Array:
        ts = jnp.full(len(x), t, jnp.int32)
        prediction = experiment.denoise(params, labels, clip=False)(x, process.base_t[ts])
        return process.noise[t] * score(process, prediction, ts)

    shaped = jnp.asarray(points, jnp.float32).reshape(-1, *experiment.shape)
    vectors = [scores(run_sampler.params, shaped / process.scale[t], jnp.int32(t)) for t in steps]
    return np.stack([np.asarray(vector).reshape(-1, 2) for vector in vectors])


def _scaled(process: Process, x_t: jax.Array, t: int) -> Points:
    return np.asarray(process.scale[t] * x_t, np.float64)
