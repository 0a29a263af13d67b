"""One mesh over all devices, and where each array of the training state lives on it.

The global batch is split along the one mesh axis; parameters, optimiser state and moving average are replicated, or
sharded by rule. Programs are written for global arrays: XLA inserts the communication. One device is the same code.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"

Rule = tuple[str, int | None]
"""(pattern, axis): leaves whose path matches are split along that axis (negative: from the end), or replicated."""

REPLICATED: tuple[Rule, ...] = ((".*", None),)
"""Every device holds all parameters."""

FSDP: tuple[Rule, ...] = (("(kernel|embedding)$", -1), (".*", None))
"""Kernels and embeddings, their moments and averages are split along output channels: memory per device falls with
their number. What is left whole, biases and the scales of norms, is a thousandth of a network."""

ZERO1: tuple[Rule, ...] = (("^params/", None), *FSDP)
"""Moments and the average are split as by FSDP, weights are whole: Rajbhandari et al. 2020, ZeRO stage 1."""


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over the devices given, by default all."""
    devices = list(jax.devices() if devices is None else devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def check_batch(batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Raises ValueError where a batch, or each of the parts that it is taken in, does not divide over the devices."""
    unit = mesh.size * parts
    if batch_size % unit:
        lower = batch_size // unit * unit
        near = " or ".join(str(n) for n in (lower, lower + unit) if n > 0)
        taken = f" in train.accumulate = {parts} parts" if parts > 1 else ""
        raise ValueError(f"train.batch_size = {batch_size} does not divide over {mesh.size} devices{taken}; use {near}")


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_axis(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Split along one axis, the others whole."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), AXIS))


def by_rules(tree: Any, mesh: Mesh, rules: Sequence[Rule]) -> Any:
    """The sharding of every leaf of a (possibly abstract) tree, by the first rule whose pattern its path matches.

    A leaf whose axis does not divide over the devices is replicated.
    """

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        axis = next((axis for pattern, axis in rules if re.search(pattern, name)), None)
        if axis is None or leaf.ndim == 0 or leaf.shape[axis] % mesh.size:
            return replicated(mesh)
        return split_axis(mesh, axis % leaf.ndim)

    return jax.tree_util.tree_map_with_path(one, tree)


def by_device(mesh: Mesh, scattered: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a sum over rows, split over the devices, the sum of what each device finds for its own rows.

    XLA then adds up results, of the type that the function returns, and not the partial sums of some operation in it;
    where they are `scattered`, FSDP's share of them on each device.
    """

    def summed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arrays: Any) -> Any:
            like = jax.eval_shape(function, *arrays)
            axis = like.ndim - 1
            split = scattered and like.shape[axis] % mesh.size == 0

            def own(*rows: Any) -> Any:
                value = function(*rows)
                if split:
                    return jax.lax.psum_scatter(value, AXIS, scatter_dimension=axis, tiled=True)
                return jax.lax.psum(value, AXIS)

            place = split_axis(mesh, axis).spec if split else PartitionSpec()
            return jax.shard_map(own, mesh=mesh, in_specs=PartitionSpec(AXIS), out_specs=place)(*arrays)

        return call

    return summed if mesh.size > 1 else lambda function: function


def once_whole(mesh: Mesh) -> Callable[[Any], Any]:
    """Gathers an array on every device, once for all that use it."""
    return lambda x: jax.lax.optimization_barrier(jax.lax.with_sharding_constraint(x, replicated(mesh)))


def gathered(mesh: Mesh) -> dict[str, Callable[[Any], Any]]:
    """How a step with split state places weights as the network uses them, and gradients as the optimiser does.

    Of these functions, for use inside a jitted program, XLA makes all-gathers and reduce-scatters.
    """

    def placed(rules: Sequence[Rule]) -> Callable[[Any], Any]:
        return lambda tree: jax.lax.with_sharding_constraint(tree, by_rules(tree, mesh, rules))

    return {"gather": placed(REPLICATED), "scatter": placed(FSDP)}
