"""The training state with each of its trees of numbers as one vector: for GPUs.

A network has hundreds of parameters. On a GPU the update of each is some kernels, most of them too small to be worth
the launch; of one vector it is a dozen in all. A kernel of a convolution lies in the vector as cuDNN reads it, output
channels first, so that neither weights nor gradients are transposed. Checkpoints hold the state as it is elsewhere.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.training.state import TrainState

LAST_FIRST = (3, 0, 1, 2)
"""Axes of a convolution's kernel, H W in out, as they lie in a vector."""


@partial(jax.tree_util.register_dataclass, data_fields=("vector",), meta_fields=("structure", "shapes"))
@dataclass(frozen=True)
class Packed:
    """A tree of float32 arrays as one vector."""

    vector: Any
    """Float32 [N]; or what jax puts in an array's place, such as its sharding."""
    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    """Of the leaves."""


def pack(tree: Any) -> Packed:
    """The leaves of a tree one after the other; a tree that is packed stays as it is."""
    if isinstance(tree, Packed):
        return tree
    leaves, structure = jax.tree.flatten(tree)
    rows = [(x.transpose(LAST_FIRST) if x.ndim == 4 else x).reshape(-1) for x in leaves]
    return Packed(jnp.concatenate(rows), structure, tuple(x.shape for x in leaves))


def unpack(packed: Packed) -> Any:
    """The tree."""
    leaves, start = [], 0
    for shape in packed.shapes:
        stop = start + int(np.prod(shape))
        part = jax.lax.slice(packed.vector, (start,), (stop,))
        if len(shape) == 4:
            part = part.reshape([shape[axis] for axis in LAST_FIRST]).transpose(np.argsort(LAST_FIRST))
        leaves.append(part.reshape(shape))
        start = stop
    return jax.tree.unflatten(packed.structure, leaves)


def _pack_state(state: TrainState) -> TrainState:
    structure = jax.tree.structure(state.params)

    def alike(node: Any) -> bool:
        return jax.tree.structure(node) == structure

    return jax.tree.map(lambda node: pack(node) if alike(node) else node, state, is_leaf=alike)


@jax.jit
def unpack_state(state: TrainState) -> TrainState:
    """The state of which pack_state made this one; that one stays."""

    def packed(node: Any) -> bool:
        return isinstance(node, Packed)

    return jax.tree.map(lambda node: unpack(node) if packed(node) else node, state, is_leaf=packed)


def pack_state(state: TrainState) -> TrainState:
    """The state with every tree that is like the parameters packed; its own arrays are deleted. It may be abstract."""
    place = state.step.sharding
    if isinstance(state.step, jax.ShapeDtypeStruct):
        like = jax.eval_shape(_pack_state, state)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), like)
    packed = jax.jit(_pack_state, out_shardings=place)(state)
    for array in jax.tree.leaves(state):
        array.delete()
    return packed


PACKED: dict[str, Any] = {"gather": unpack, "scatter": pack, "store": pack_state, "whole": unpack_state}
"""The fields of an Update whose state is packed."""
