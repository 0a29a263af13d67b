"""What the figures of points show, drawn by the network of a run on the plane: arrays for diffusion/figures/.

Points of step t are given as scale[t] x_t, which is x_t where variance is preserved and fits the same axes where it
explodes. Row i of every array depends on the seed and on i alone.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.process import Process, q_sample
from diffusion.core.respacing import Grid
from diffusion.core.score import score
from diffusion.core.types import Image, Keys, Labels, normal
from diffusion.data.source import Source
from diffusion.data.toy import to_points
from diffusion.experiment.registry import SAMPLERS
from diffusion.figures.arrays.network import Gallery
from diffusion.metrics import samples
from diffusion.sampling import loop
from diffusion.training.state import Params

Points = np.ndarray
"""[..., 2]."""


def known(source: Source, n: int) -> Points:
    """[n, 2]: the first points of a set, all of them where it has fewer."""
    return to_points(source.read(np.arange(min(n, source.size)))[0])


def noised(gallery: Gallery, points: Points, steps: Sequence[int]) -> Points:
    """[S, n, 2]: draws of q(x_t | x_0) at steps of the chain, 0 legal too; a point has one noise for all of them."""
    process = gallery.process
    x_0 = jnp.asarray(points, jnp.float32)
    eps = normal(loop.image_keys(gallery.seed, jnp.arange(len(x_0))), x_0)
    return np.stack([_shown(process, q_sample(process, x_0, jnp.full(len(x_0), t), eps), t) for t in steps])


def path(gallery: Gallery, n: int, steps: Sequence[int], sampler: str = "", grid: Grid | None = None) -> Points:
    """[S, n, 2]: n chains at falling steps, T and 0 among what may be asked for; unless told, of the run's own chain.

    Started as in `Gallery.samples`, of which they are the first where the sampler is the config's.
    """
    ours, process = gallery.ours, gallery._replace(grid=grid or gallery.grid).process
    options = ours.config.sample
    chosen = SAMPLERS[sampler or options.sampler](process, ours.variance, options)

    def advance(
        params: Params, keys: Keys, labels: Labels, carry: tuple[Image, loop.State], first: jax.Array, last: jax.Array
    ) -> tuple[Image, loop.State]:
        return loop.descend(keys, chosen, ours.denoise(params, labels), *carry, first, last)

    advance = jax.jit(advance)
    keys = loop.image_keys(gallery.seed, jnp.arange(n))
    labels = jnp.asarray(samples.labels(np.arange(n), ours.classes))
    x_T = loop.prior_sample(keys, process, ours.shape)
    carry, at, found = (x_T, chosen.init(x_T)), process.T, []
    for t in steps:
        carry = advance(gallery.params, keys, labels, carry, jnp.int32(at), jnp.int32(t))
        at = t
        found.append(_shown(process, carry[0].reshape(n, 2), t))
    return np.stack(found)


def field(gallery: Gallery, points: Points, steps: Sequence[int]) -> Points:
    """[S, n, 2]: noise[t] grad log q(x_t) of the network at scale[t] x_t = `points`, in units of a standard normal's.

    x_0_hat is not clipped: where it would be, the score is no gradient. A network with classes is asked for the first.
    """
    ours, process = gallery.ours, gallery.process
    labels = jnp.zeros(len(points), jnp.int32)

    @jax.jit
    def arrows(params: Params, x: Image, t: jax.Array) -> jax.Array:
        ts = jnp.full(len(x), t, jnp.int32)
        prediction = ours.denoise(params, labels, clip=False)(x, process.base_t[ts])
        return process.noise[t] * score(process, prediction, ts)

    shaped = jnp.asarray(points, jnp.float32).reshape(-1, *ours.shape)
    found = [arrows(gallery.params, shaped / process.scale[t], jnp.int32(t)) for t in steps]
    return np.stack([np.asarray(one).reshape(-1, 2) for one in found])


def _shown(process: Process, x_t: jax.Array, t: int) -> Points:
    return np.asarray(process.scale[t] * x_t, np.float64)
