"""The error line of a training run that does not fit into memory."""

import dataclasses

import jax
import jax.numpy as jnp

from diffusion.distributed import sharding
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import SHARDINGS
from diffusion.training import memory
from diffusion.training.memory import Footprint
from diffusion.training.state import TrainState


def footprint(experiment: Experiment, state: TrainState) -> Footprint:
    """The memory of a training step of an experiment; the arrays of `state` may be abstract or donated."""
    c, net = experiment.config, experiment.net
    options = {field.name for field in dataclasses.fields(net)}  # the MLP computes in float32 and stores all
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    split = sharding.by_rules(abstract, experiment.mesh, sharding.FSDP)
    whole = sharding.by_rules(abstract, experiment.mesh, sharding.REPLICATED)
    is_split = SHARDINGS[c.train.sharding] is sharding.FSDP
    rematted = experiment._replace(net=net.clone(remat=True)) if "remat" in options else experiment
    return Footprint(
        state=memory.on_device(abstract, split if is_split else whole),
        split_state=memory.on_device(abstract, split),
        image=memory.residuals(experiment.task(), abstract.params, experiment.shape),
        remat_image=memory.residuals(rematted.task(), abstract.params, experiment.shape),
        batch_size=c.train.batch_size,
        devices=experiment.mesh.size,
        parts=c.train.accumulate,
        split=is_split,
        full_precision="compute_dtype" in options and net.compute_dtype == jnp.float32,
    )


def out_of_memory(experiment: Experiment, state: TrainState) -> str:
    """One line: what a step holds, and up to three settings that reduce it. Takes seconds: it traces the step."""
    return memory.advise(footprint(experiment, state))
