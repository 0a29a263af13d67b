"""What the figures of pixels show, drawn by the network of a run: arrays for diffusion/figures/.

Row i of every array depends on the seed and on i alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.process import Process
from diffusion.core.respacing import Grid
from diffusion.core.types import Array, Image, Keys, Labels, PerExample
from diffusion.data.source import SMALL, Source
from diffusion.data.transforms import to_image, to_pixels
from diffusion.distributed import sharding
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import SAMPLERS
from diffusion.metrics import samples
from diffusion.metrics.image_means import padded
from diffusion.metrics.neighbours import nearest
from diffusion.sampling import Sampler, ancestral, editing, loop
from diffusion.training.state import Params

LOOKED_AT = 64
"""Images that are read for each pair, where a pair must have one class."""

Pixels = np.ndarray
"""uint8 [..., H, W, C]."""


class Gallery(NamedTuple):
    """A network with its chain. In arguments steps are fractions of T, in results they are those of the full chain."""

    ours: Experiment
    params: Params
    seed: int = 0
    grid: Grid | None = None
    """Steps of the chain, by default those of the config."""
    batch_size: int = 64

    @property
    def process(self) -> Process:
        """The chain's process."""
        return self.ours.sampled(self.grid)

    @property
    def sampler(self) -> Sampler:
        """The config's sampler for this chain."""
        c = self.ours.config.sample
        return SAMPLERS[c.sampler](self.process, self.ours.variance, c)

    def samples(self, n: int) -> Pixels:
        """[n, H, W, C]: the images that scripts/sample.py draws with this seed."""
        run, classes = self.ours.sampler(grid=self.grid), self.ours.classes
        batch = self.ours.batch(min(self.batch_size, n))
        return samples.draw(lambda keys, labels: run(self.params, keys, labels).x_0, n, batch, self.seed, classes)

    def progressive(self, n: int, columns: int) -> tuple[Pixels, list[int]]:
        """[n, columns, H, W, C]: x_0_hat at evenly spaced steps from T on, and the sample; and these steps.

        The chains are those of `samples`. A chain of fewer steps has fewer columns.
        """
        stops = self.steps([1 - i / (columns - 1) for i in range(columns - 1)], lowest=1)
        run = self.ours.sampler(grid=self.grid, collect=tuple(stops))

        def draw(params: Params, keys: Keys, labels: Labels) -> Array:
            found = run(params, keys, labels)
            return _pixels(jnp.concatenate([jnp.moveaxis(found.x_0_hats, 0, 1), found.x_0[:, None]], axis=1))

        return self.compiled(draw)([self.keys(np.arange(n)), self._labels(np.arange(n))]), self.base(stops)

    def forks(self, chains: int, ends: int, fractions: Sequence[float]) -> tuple[Pixels, Pixels, list[int]]:
        """Ends [chains, S, ends, H, W, C] of ancestral chains that share x_t, x_t [chains, S, H, W, C], and the steps.

        Ancestral whatever the config's sampler, so that there is noise to differ by. Chains start as in `samples`.
        """
        stops = self.steps(fractions)
        row = np.arange(chains * ends)
        shared, labels = self.keys(row // ends), self._labels(row // ends)
        process, ours = self.process, self.ours
        sampler = ancestral(process, ours.variance)

        def draw(params: Params, shared: Keys, own: Keys, labels: Labels, t: Array) -> editing.Fork:
            x_T = loop.prior_sample(shared, process, ours.shape)
            return editing.fork(shared, own, process, sampler, ours.denoise(params, labels, guided=True), x_T, t)

        run = self.compiled(lambda *args: jax.tree.map(to_pixels, draw(*args)))
        own = [self.keys(chains + i * len(row) + row) for i in range(len(stops))]  # ends of no two forks share noise
        found = [run([shared, keys, labels], t) for keys, t in zip(own, stops, strict=True)]
        x_0, x_t = (np.stack([f[i].reshape(chains, ends, *ours.shape) for f in found], axis=1) for i in (0, 1))
        return x_0, x_t[:, :, 0], self.base(stops)

    def interpolate(
        self,
        pairs: tuple[Pixels, Pixels, np.ndarray],
        lam: Sequence[float],
        fractions: Sequence[float],
        shared: bool = False,
    ) -> tuple[Pixels, list[int]]:
        """[S, pairs, L, H, W, C]: mixtures of the two images of each pair (see `pairs`), for each step; the steps.

        `shared`: whether the two encodings have the same noise.
        """
        first, second, labels = pairs
        count, ours, process = len(first), self.ours, self.process
        sampler, rows = self.sampler, np.repeat(np.arange(count), len(lam))
        shares = jnp.asarray(np.tile(np.asarray(lam, np.float32), count))

        def draw(
            params: Params, keys: Keys, x: Image, other: Image, lam: PerExample, labels: Labels, t: Array
        ) -> Array:
            denoise = ours.denoise(params, labels, guided=True)
            return to_pixels(
                editing.interpolate(keys, process, sampler, denoise, x, other, lam=lam, t=t, shared=shared)
            )

        run, stops = self.compiled(draw), self.steps(fractions)
        images = [to_image(jnp.asarray(x))[rows] for x in (first, second)]
        args = [self.keys(rows), *images, shares, jnp.asarray(labels)[rows]]
        return np.stack([run(args, t).reshape(count, len(lam), *ours.shape) for t in stops]), self.base(stops)

    def steps(self, fractions: Sequence[float], lowest: int = 0) -> list[int]:
        """The chain's steps nearest to fractions of T, the full chain's length; each once."""
        base = np.asarray(self.process.base_t)
        found = [int(np.argmin(np.abs(base - f * self.ours.process.T))) for f in fractions]
        return list(dict.fromkeys(max(lowest, t) for t in found))

    def base(self, steps: Sequence[int]) -> list[int]:
        """Steps of the chain as those of the full chain."""
        return [int(self.process.base_t[t]) for t in steps]

    def keys(self, index: np.ndarray) -> Keys:
        """The key of each row or image."""
        return loop.image_keys(self.seed, jnp.asarray(index))

    def _labels(self, index: np.ndarray) -> Labels:
        return jnp.asarray(samples.labels(index, self.ours.classes))

    def compiled(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        """`draw`(params, *rows, *scalars) compiled once and applied in batches of rows, split over the devices."""
        jitted, place = jax.jit(draw), sharding.split_axis(self.ours.mesh)

        def run(rows: Sequence[Array], *scalars: int) -> Any:
            n = len(rows[0])
            parts = []
            for index in padded(np.arange(n), self.ours.batch(min(self.batch_size, n))):
                batch = [jax.device_put(row[index], place) for row in rows]
                parts.append(jax.device_get(jitted(self.params, *batch, *(jnp.int32(s) for s in scalars))))
            return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:n], *parts)

        return run


def pairs(source: Source, n: int, seed: int, same_class: bool) -> tuple[Pixels, Pixels, np.ndarray]:
    """n pairs of different images, [n, H, W, C] twice, and the label of each; chosen by the seed.

    A network that is told the class gets pairs of one class. Raises ValueError where the set has too few images.
    """
    order = np.random.default_rng(seed).permutation(source.size)[: n * (LOOKED_AT if same_class else 2)]
    images, labels = source.read(order)
    first: list[int] = []
    second: list[int] = []
    waiting: dict[int, int] = {}
    for i, label in enumerate(np.asarray(labels) * same_class):
        if (other := waiting.pop(int(label), None)) is None:
            waiting[int(label)] = i
        else:
            first.append(other)
            second.append(i)
    if len(first) < n:
        raise ValueError(f"{source.name}: its {source.size} images give {len(first)} pairs, not {n}; ask for fewer")
    return images[first[:n]], images[second[:n]], np.asarray(labels)[first[:n]]


def neighbours(source: Source, drawn: Pixels, k: int) -> Pixels:
    """[N, k, H, W, C]: the images of a set nearest to each of N, in pixels.

    Raises ValueError for a set that is too large to hold, and for more neighbours than it has images.
    """
    if source.size * int(np.prod(source.shape)) > 8 * SMALL:
        raise ValueError(f"{source.name}: {source.size} images of {source.shape} do not fit in memory for a search")
    images = source.read(np.arange(source.size))[0] if source.arrays is None else source.arrays[0]
    return images[nearest(drawn, images, k)[0]]


def _pixels(images: Array) -> Array:
    """[B, K, H, W, C] in [-1, 1] as uint8."""
    return jax.vmap(to_pixels)(images)
