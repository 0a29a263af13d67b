"""Arrays that figures show, drawn by the trained network of a run.

Row i of every array depends on the seed and on i alone. Points of the plane of step t are returned as scale[t] x_t: x_t
itself for variance-preserving processes, and a value of the same range for variance-exploding ones.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.array_types import Array, Image, Keys, Labels, normal
from diffusion.core.forward_process import Process, q_sample
from diffusion.core.respacing import Grid
from diffusion.core.score import score
from diffusion.data.dataset_interface import SMALL, Source
from diffusion.data.transforms import to_pixels
from diffusion.distributed import sharding
from diffusion.evaluation import sample_batches
from diffusion.experiment.build import Experiment
from diffusion.metrics.mean_and_standard_error import padded
from diffusion.metrics.neighbours import nearest
from diffusion.sampling import ancestral, editing, sampling_loop
from diffusion.training.state import Params

Pixels = np.ndarray
"""uint8 [..., H, W, C]."""
Points = np.ndarray
"""[..., 2]."""


class RunSampler(NamedTuple):
    """A trained network with its chain.

    Arguments give steps as fractions of T, results as steps of the full chain.
    """

    experiment: Experiment
    params: Params
    seed: int = 0
    grid: Grid | None = None
    """Steps of the chain, by default those of the config."""
    batch_size: int = 64

    @property
    def process(self) -> Process:
        """The chain's process."""
        return self.experiment.sampled(self.grid)

    def samples(self, n: int) -> Pixels:
        """[n, H, W, C]: the images that scripts/sample.py draws with this seed."""
        run, classes = self.experiment.sampler(grid=self.grid), self.experiment.classes
        batch = self.experiment.batch(min(self.batch_size, n))
        return sample_batches.draw(
            lambda keys, labels: run(self.params, keys, labels).x_0, n, batch, self.seed, classes
        )

    def progressive(self, n: int, columns: int) -> tuple[Pixels, list[int]]:
        """[n, columns, H, W, C]: x_0_hat at evenly spaced steps from T on, and the sample; and these steps.

        The chains are those of `samples`. A chain of fewer steps has fewer columns.
        """
        ts = self.steps([1 - i / (columns - 1) for i in range(columns - 1)], lowest=1)
        run = self.experiment.sampler(grid=self.grid, collect=tuple(ts))

        def draw(params: Params, keys: Keys, labels: Labels) -> Array:
            trajectory = run(params, keys, labels)
            x_0_hats = jnp.moveaxis(trajectory.x_0_hats, 0, 1)
            return jax.vmap(to_pixels)(jnp.concatenate([x_0_hats, trajectory.x_0[:, None]], axis=1))

        return self.in_batches(draw)([self.keys(np.arange(n)), self.labels(np.arange(n))]), self.full_chain_steps(ts)

    def forks(self, chains: int, ends: int, fractions: Sequence[float]) -> tuple[Pixels, Pixels, list[int]]:
        """Ends [chains, S, ends, H, W, C] of ancestral chains that share x_t, x_t [chains, S, H, W, C], and the steps.

        The sampler is ancestral whatever the config says: deterministic chains would not differ. Chains start as in
        `samples`.
        """
        process, experiment = self.process, self.experiment
        sampler = ancestral(process, experiment.variance)

        def draw(params: Params, shared: Keys, own: Keys, labels: Labels, t: Array) -> editing.Fork:
            x_T = sampling_loop.prior_sample(shared, process, experiment.shape)
            denoise = experiment.denoise(params, labels, guided=True)
            return jax.tree.map(to_pixels, editing.fork(shared, own, process, sampler, denoise, x_T, t))

        run, ts, row = self.in_batches(draw), self.steps(fractions), np.arange(chains * ends)
        shared, labels = self.keys(row // ends), self.labels(row // ends)
        own = [self.keys(chains + i * len(row) + row) for i in range(len(ts))]  # ends of no two forks share noise
        drawn = [run([shared, keys, labels], t) for keys, t in zip(own, ts, strict=True)]
        x_0, x_t = (
            np.stack([fork[i].reshape(chains, ends, *experiment.shape) for fork in drawn], axis=1) for i in (0, 1)
        )
        return x_0, x_t[:, :, 0], self.full_chain_steps(ts)

    def steps(self, fractions: Sequence[float], lowest: int = 0) -> list[int]:
        """The chain's steps nearest to fractions of T, without repetitions; none below `lowest`."""
        base = np.asarray(self.process.base_t)
        nearest_steps = [int(np.argmin(np.abs(base - f * self.experiment.process.T))) for f in fractions]
        return list(dict.fromkeys(max(lowest, t) for t in nearest_steps))

    def full_chain_steps(self, steps: Sequence[int]) -> list[int]:
        """Steps of the full chain that correspond to steps of this chain."""
        return [int(self.process.base_t[t]) for t in steps]

    def keys(self, index: np.ndarray) -> Keys:
        """The random keys of rows or images with these numbers."""
        return sampling_loop.image_keys(self.seed, jnp.asarray(index))

    def labels(self, index: np.ndarray) -> Labels:
        return jnp.asarray(sample_batches.labels(index, self.experiment.classes))

    def in_batches(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        """A function of (rows, *scalars): draw(params, *rows, *scalars), compiled, in batches on all devices."""
        jitted, place = jax.jit(draw), sharding.split_axis(self.experiment.mesh)

        def run(rows: Sequence[Array], *scalars: int) -> Any:
            n = len(rows[0])
            parts = []
            for index in padded(np.arange(n), self.experiment.batch(min(self.batch_size, n))):
                batch = [jax.device_put(row[index], place) for row in rows]
                parts.append(jax.device_get(jitted(self.params, *batch, *(jnp.int32(s) for s in scalars))))
            return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:n], *parts)

        return run


def nearest_images(source: Source, drawn: Pixels, k: int) -> Pixels:
    """[N, k, H, W, C]: the images of a set nearest to each of N, in pixels.

    Raises ValueError for a set that is too large to hold, and for more neighbours than it has images.
    """
    if source.size * int(np.prod(source.shape)) > 8 * SMALL:
        raise ValueError(f"{source.name}: {source.size} images of {source.shape} do not fit in memory for a search")
    images = source.read(np.arange(source.size))[0] if source.arrays is None else source.arrays[0]
    return images[nearest(drawn, images, k)[0]]


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
    experiment, keys, labels = run_sampler.experiment, run_sampler.keys(np.arange(n)), run_sampler.labels(np.arange(n))
    process, chosen = experiment.chain(sampler, grid or run_sampler.grid)

    @jax.jit
    def advance(params: Params, x_t: Image, state: Any, first: jax.Array, last: jax.Array) -> Any:
        denoise = experiment.denoise(params, labels, guided=True)
        return sampling_loop.descend(keys, chosen, denoise, x_t, state, first, last)

    x_t = sampling_loop.prior_sample(keys, process, experiment.shape)
    state, current, points = chosen.init(x_t), process.T, []
    for t in steps:
        x_t, state = advance(run_sampler.params, x_t, state, jnp.int32(current), jnp.int32(t))
        current = t
        points.append(_scaled(process, x_t.reshape(n, 2), t))
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
