"""What a training step holds on a device, by shapes alone, and what to do when that is too much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.runtime.text import quantity
from diffusion.training.state import Params
from diffusion.training.step import Task, loss

SIGNS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
"""What a backend's message says when memory is what it lacks."""


class Footprint(NamedTuple):
    """The memory of one training step, in bytes on one device, and the settings that it depends on."""

    state: int
    """Parameters, average, moments, as they are placed."""
    split_state: int
    """The same with train.sharding = fsdp."""
    image: int
    """What the forward pass keeps of one image for the backward pass."""
    remat_image: int
    """The same with net.remat."""
    batch_size: int
    """Images of a step, on all devices."""
    devices: int
    parts: int
    """train.accumulate."""
    remat: bool
    """Whether net.remat is on already, so that `image` is `remat_image`."""
    split: bool
    """Whether train.sharding is fsdp already."""
    full_precision: bool
    """Whether activations are float32."""


class Setting(NamedTuple):
    """A change of the config and about what it gives."""

    change: str
    effect: str


def on_device(tree: Any, places: Any) -> int:
    """Bytes that one device holds of a tree of (possibly abstract) arrays placed so; random keys are not counted."""

    def one(leaf: Any, place: Any) -> int:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return 0
        return int(np.prod(place.shard_shape(leaf.shape))) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(one, tree, places)))


def kept(task: Task, params: Params, shape: tuple[int, ...]) -> int:
    """Bytes that the forward pass of one image keeps for the backward pass, before a compiler's savings.

    The residuals of jax.vjp at two images less those at one: parameters, which are residuals too, cancel. By shapes
    alone: nothing is computed and `params` may be abstract.
    """

    def residuals(n: int) -> int:
        def backward(params: Params, x_0: Any, eps: Any) -> Any:
            key, labels, t = jax.random.key(0), jnp.zeros(n, jnp.int32), jnp.ones(n, jnp.int32)
            return jax.vjp(lambda p: jnp.mean(loss(task, p, key, x_0, labels, t, eps).loss), params)[1]

        image = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
        leaves = jax.tree.leaves(jax.eval_shape(backward, params, image, image))
        return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves if hasattr(leaf.dtype, "itemsize"))

    return residuals(2) - residuals(1)


def settings(now: Footprint) -> list[Setting]:
    """What can still be changed to need less, the changes that leave the result alone first."""
    share = now.batch_size // now.devices
    held = share // now.parts * now.image
    finer = next((n for n in range(2 * now.parts, share + 1) if share % n == 0), None)
    found: list[Setting] = []
    if finer:
        less = quantity(share // finer * now.image, "B")
        found.append(Setting(f"train.accumulate={finer}", f"activations about {less}, the same result"))
    if not now.remat and now.remat_image < now.image:
        less = quantity(share // now.parts * now.remat_image, "B")
        found.append(Setting("net.remat=true", f"activations about {less}, the same result, about a third slower"))
    if not now.split and now.devices > 1:
        found.append(Setting("train.sharding=fsdp", f"state about {quantity(now.split_state, 'B')}, the same result"))
    if now.full_precision:
        found.append(Setting("net.dtype=bfloat16", f"activations about {quantity(held / 2, 'B')}, rounded more"))
    if share > 1:
        half = share // 2 * now.devices
        found.append(Setting(f"train.batch_size={half}", "activations about half, another experiment"))
    return found


def advise(now: Footprint) -> str:
    """One line for a step that does not fit: what it holds, and three settings to change with what each would give.

    Activations are an estimate from above: compilers fuse and reuse.
    """
    held = now.batch_size // now.devices // now.parts * now.image
    needs = (
        f"out of memory: a step of {now.batch_size} images holds about {quantity(now.state, 'B')} of state and "
        f"{quantity(held, 'B')} of activations on each of {now.devices} devices"
    )
    options = [f"config.{change} ({effect})" for change, effect in settings(now)[:3]]
    return f"{needs}; set {' or '.join(options)}" if options else f"{needs}; use a smaller network or more devices"


def exhausted(error: BaseException) -> bool:
    """Whether an error is that of a device or a host without memory left."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def advised(advice: Callable[[], str]) -> Iterator[None]:
    """Turns running out of memory, while compiling or computing, into a ValueError with the line that `advice` gives.

    A dispatch returns before it is computed: the block must reach to where results are waited for.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not exhausted(error):
            raise
        raise ValueError(advice()) from error
