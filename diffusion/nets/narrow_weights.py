"""Weights in the type that their layers compute in, once, where a network is called many times with the same ones."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn


def narrowed(call: Callable[[Any], Any], params: Any) -> Any:
    """The parameters of a network, those of each nn.Dense and nn.Conv in the type of the layer: results do not change.

    `call` applies the network to parameters; it is traced, not computed.
    """
    types: dict[tuple[str, ...], Any] = {}

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer: Any = context.module
        if isinstance(layer, nn.Dense | nn.Conv) and layer.dtype is not None:
            types[layer.path] = layer.dtype
        return call(*args, **kwargs)

    def narrow(path: Any, x: Any) -> Any:
        return x.astype(types.get(tuple(key.key for key in path[:-1]), x.dtype))

    with nn.intercept_methods(note):
        jax.eval_shape(call, params)
    return jax.tree_util.tree_map_with_path(narrow, params)
