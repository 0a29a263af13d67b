"""What to tell the user of an experiment that does not fit into memory."""

import jax
import jax.numpy as jnp

from diffusion.distributed import sharding
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import SHARDINGS
from diffusion.training import memory
from diffusion.training.memory import Footprint
from diffusion.training.state import TrainState


def footprint(ours: Experiment, state: TrainState) -> Footprint:
    """The memory of a training step of an experiment; the arrays of `state` may be abstract, or donated already."""
    c = ours.config
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    split = sharding.by_rules(abstract, ours.mesh, sharding.FSDP)
    whole = sharding.by_rules(abstract, ours.mesh, sharding.REPLICATED)
    rematted = ours._replace(net=ours.net.clone(remat=True))
    is_split = SHARDINGS[c.train.sharding] is sharding.FSDP
    return Footprint(
        state=memory.on_device(abstract, split if is_split else whole),
        split_state=memory.on_device(abstract, split),
        image=memory.kept(ours.task(), abstract.params, ours.shape),
        remat_image=memory.kept(rematted.task(), abstract.params, ours.shape),
        batch_size=c.train.batch_size,
        devices=ours.mesh.size,
        parts=c.train.accumulate,
        remat=ours.net.remat,
        split=is_split,
        full_precision=ours.net.compute_dtype == jnp.float32,
    )


def out_of_memory(ours: Experiment, state: TrainState) -> str:
    """One line: what a step holds, and three settings to change with what each would give. Takes seconds: it traces."""
    return memory.advise(footprint(ours, state))
