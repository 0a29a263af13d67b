"""Gradient accumulation: a batch computed in parts, one after the other, with the gradient of the whole.

Every random number is that of the whole batch. Flips, t and noise are drawn before the batch is divided; the dropout
masks of a part are its rows of the masks of the whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from diffusion.core.array_types import Array, OneKey
from diffusion.nets.dropout import Dropout

CALL = "__call__"


def split(batch: Any, parts: int) -> Any:
    """[B, ...] -> [parts, B / parts, ...], part j holding rows j, j + parts, j + 2 parts, ...

    Strided, so that each device has an equal share of every part and no row moves between devices.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)


def merge(batch: Any) -> Any:
    """The inverse of `split`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), batch)


def accumulate(one: Callable[[Any], tuple[Any, Any]], batch: Any, parts: int) -> tuple[Any, Any]:
    """(mean, rows) of one(part) = (mean over its examples, rows of its examples), over the parts of a batch.

    Parts are of one size, so the mean of their means is the mean of the batch. Dropout inside `one` is that of the
    whole batch.
    """

    def body(total: Any, numbered: tuple[Array, Any]) -> tuple[Any, Any]:
        j, part = numbered
        with dropout_rows(j, parts):
            mean, rows = one(part)
        return jax.tree.map(jnp.add, total, mean), rows

    pieces = split(batch, parts)
    shapes, _ = jax.eval_shape(one, jax.tree.map(lambda x: x[0], pieces))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, rows = jax.lax.scan(body, zero, (jnp.arange(parts), pieces))
    return jax.tree.map(lambda x: x / parts, total), merge(rows)


@contextmanager
def dropout_rows(part: Array, parts: int) -> Iterator[None]:
    """Inside, every nn.Dropout of a traced network uses the rows of this part of the mask of the whole batch.

    Each layer's mask is drawn for the whole batch from the layer's usual key, and the rows of the part are taken from
    it, so it is exact for every random number generator. Where the compiler does not fuse the two, `parts` times as
    many bits are drawn as are used, for one layer at a time.
    """

    def instead(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if not isinstance(layer, nn.Dropout) or context.method_name != CALL:
            return call(*args, **kwargs)
        deterministic = nn.merge_param("deterministic", layer.deterministic, kwargs.get("deterministic"))
        if deterministic or layer.rate == 0:
            return call(*args, **kwargs)
        h, keep = args[0], 1.0 - layer.rate
        key = _fresh(layer.make_rng(layer.rng_collection), part)
        shape = (h.shape[0] * parts, *h.shape[1:])
        mask = layer.mask(key, shape) if isinstance(layer, Dropout) else jax.random.bernoulli(key, keep, shape)
        mine = mask.reshape(h.shape[0], parts, *h.shape[1:]).swapaxes(0, 1)[part]
        return jnp.where(mine, h / keep, jnp.zeros_like(h))

    with nn.intercept_methods(instead):
        yield


def _fresh(key: OneKey, part: Array) -> OneKey:
    """The same key, tied to the part: otherwise the masks of all layers would be drawn before the first part."""
    data, _ = jax.lax.optimization_barrier((jax.random.key_data(key), part))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
