"""The memory of a training step on one device, from shapes alone, and the settings that reduce it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.runtime.report_text import quantity, size
from diffusion.training.state import Params, TrainState
from diffusion.training.step import Task, loss

SIGNS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
"""Parts of a backend's message that mean that memory is exhausted."""


class Footprint(NamedTuple):
    """The memory of one training step, in bytes on one device, and the settings that it depends on."""

    state: int
    """Parameters, average, moments, as they are sharded."""
    split_state: int
    """The same with train.sharding = fsdp."""
    image: int
    """What the forward pass stores of one image for the backward pass."""
    remat_image: int
    """The same with net.remat; equal to `image` where that is on or the network does not have it."""
    batch_size: int
    """Images of a step, on all devices."""
    devices: int
    parts: int
    """train.accumulate."""
    split: bool
    """Whether train.sharding is fsdp."""
    full_precision: bool
    """Whether activations are float32 and net.dtype can change that."""


class Setting(NamedTuple):
    """A change of the config and its effect."""

    change: str
    effect: str


def on_device(tree: Any, places: Any) -> int:
    """Bytes on one device of a tree of (possibly abstract) arrays with these shardings; random keys do not count."""

    def one(leaf: Any, place: Any) -> int:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return 0
        return int(np.prod(place.shard_shape(leaf.shape))) * leaf.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(one, tree, places)))


def residuals(task: Task, params: Params, shape: tuple[int, ...]) -> int:
    """Bytes that the forward pass of one image stores for the backward pass, before the compiler's savings.

    The residuals of jax.vjp at two images less those at one: parameters, which are residuals too, cancel. By shapes
    alone: nothing is computed and `params` may be abstract.
    """

    def of_batch(n: int) -> int:
        def backward(params: Params, x_0: Any, eps: Any) -> Any:
            key, labels, t = jax.random.key(0), jnp.zeros(n, jnp.int32), jnp.ones(n, jnp.int32)
            return jax.vjp(lambda p: jnp.mean(loss(task, p, key, x_0, labels, t, eps).loss), params)[1]

        image = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
        leaves = jax.tree.leaves(jax.eval_shape(backward, params, image, image))
        return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves if hasattr(leaf.dtype, "itemsize"))

    return of_batch(2) - of_batch(1)


def settings(now: Footprint) -> list[Setting]:
    """Changes of the config that reduce the memory; those that do not change the result come first."""
    share = now.batch_size // now.devices
    finer = next((n for n in range(2 * now.parts, share + 1) if share % n == 0), None)
    changes: list[Setting] = []
    if finer:
        less = quantity(share // finer * now.image, "B")
        changes.append(Setting(f"train.accumulate={finer}", f"activations about {less}, the same result"))
    if now.remat_image < now.image:
        less = quantity(share // now.parts * now.remat_image, "B")
        changes.append(Setting("net.remat=true", f"activations about {less}, the same result, about a third slower"))
    if not now.split and now.devices > 1:
        changes.append(Setting("train.sharding=fsdp", f"state about {quantity(now.split_state, 'B')}, the same result"))
    if now.full_precision:
        less = quantity(share // now.parts * now.image / 2, "B")
        changes.append(Setting("net.dtype=bfloat16", f"activations about {less}, rounded more"))
    if share > 1:
        half = share // 2 * now.devices
        changes.append(Setting(f"train.batch_size={half}", "activations about half, another experiment"))
    return changes


def advise(now: Footprint) -> str:
    """One line for a step that does not fit: what it holds, and up to three settings that reduce it.

    The size of the activations is an upper estimate: compilers fuse and reuse.
    """
    held = now.batch_size // now.devices // now.parts * now.image
    needs = (
        f"out of memory: a step of {now.batch_size} images holds about {quantity(now.state, 'B')} of state and "
        f"{quantity(held, 'B')} of activations on each of {now.devices} devices"
    )
    options = [f"config.{change} ({effect})" for change, effect in settings(now)[:3]]
    return f"{needs}; set {' or '.join(options)}" if options else f"{needs}; use a smaller network or more devices"


def describe(program: Any, state: TrainState) -> str:
    """A line of the start-up report: what a compiled training step holds on one device, as the compiler counts it."""
    stored, stats = quantity(size(state), "B"), program.memory_analysis()
    if stats is None:
        return f"memory      {stored} of state"
    return (
        f"memory      about {quantity(stats.argument_size_in_bytes + stats.temp_size_in_bytes, 'B')} on each device "
        f"({stored} of parameters, averages and moments in all, {quantity(stats.temp_size_in_bytes, 'B')} of "
        "activations)"
    )


def exhausted(error: BaseException) -> bool:
    """Whether an error means that a device or the host has no memory left."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def advised(advice: Callable[[], str]) -> Iterator[None]:
    """Turns an out-of-memory error of compiling or computing into a ValueError with the line that `advice` returns.

    A dispatch returns before it is computed: the block must include the place where results are waited for.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not exhausted(error):
            raise
        raise ValueError(advice()) from error
