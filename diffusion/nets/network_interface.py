"""The interface of a network."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from diffusion.core.array_types import Condition, Labels, OneKey
from diffusion.nets.blocks import INIT
from diffusion.nets.embedding import Embedding


class Net(nn.Module):
    """A Flax module called as net(x, t, label, condition, train=False), with x [B, H, W, C] and t [B].

    label [B] and condition [B, N] may be None.

    The output has the shape of x, or twice its channels where the network predicts a variance.
    """

    classes: int = 0
    """Number of classes; labels are 0..classes-1. With 0 the network takes no labels."""
    null_label: bool = False
    """Whether label `classes` is legal too and means "no label": one network is then both models, as guidance needs."""


def conditioned(emb: Embedding, condition: Condition | None) -> Embedding:
    """emb + W condition, `W` a parameter of the module that calls it; emb alone, without W, where there is none.

    Without a bias: zeros are the same as none. Karras et al. 2022, appendix F.2.
    """
    if condition is None:
        return emb
    return emb + nn.Dense(emb.shape[1], use_bias=False, kernel_init=INIT, name="condition")(condition)


def labelled(emb: Embedding, label: Labels | None, net: Net) -> Embedding:
    """emb plus a learned vector of each label, a parameter of the network that calls it; emb alone without classes.

    The vectors are standard normal at first, as in the published code: as large as the embedding of time, or larger.
    Raises ValueError for a label given to a network without classes or missing from one with classes.
    """
    if label is None and net.classes:
        raise ValueError(f"the network has {net.classes} classes, so it needs a label for every image: pass label")
    if label is not None and not net.classes:
        raise ValueError("a label was given to a network without classes: drop it or set classes")
    if label is None:
        return emb
    init = nn.initializers.normal(1.0)
    return emb + nn.Embed(net.classes + net.null_label, emb.shape[1], embedding_init=init, name="label")(label)


def narrowed(init: Callable[[OneKey], Any], params: Any) -> Any:
    """The parameters of a network, those of each nn.Dense and nn.Conv in the type of the layer: results do not change.

    It converts them once where they are used many times. `init` is traced, to see the layers.
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
        jax.eval_shape(init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(narrow, params)
