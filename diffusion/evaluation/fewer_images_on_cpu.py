"""How many images previews and the final evaluation may use on this device.

64 samples of the CIFAR-10 network with 1000 steps take seconds on a GPU and hours on a CPU; the exact bound over its
10,000 test images takes minutes on a GPU and weeks on a CPU. On a CPU each evaluation is cut down to a stated number of
floating-point operations, by fewer images, and reports it. The cut depends on the network and the platform alone, never
on measured time, so a run stays reproducible.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion.experiment.build import Experiment
from diffusion.training.state import Params


class Budget(NamedTuple):
    """What one evaluation may cost."""

    flop: float
    """Floating-point operations; infinite where there is no limit."""
    forward: float
    """Floating-point operations of one network call on one image."""

    def images(self, wanted: int, steps: int) -> int:
        """How many of `wanted` images the budget allows at `steps` network calls each; possibly none."""
        return int(min(wanted, self.flop / (self.forward * steps)))


UNLIMITED = Budget(float("inf"), 1.0)


def forward_flops(experiment: Experiment, params: Params | None = None) -> float:
    """Floating-point operations of one network evaluation of one image, as XLA counts them before optimisation.

    They are those of the plain network, also where nets/cpu/ computes it in another way. Of `params` only the shapes
    are used; without them the network is traced to find the shapes.
    """
    if params is None:
        params = jax.eval_shape(experiment.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    x, t = jax.ShapeDtypeStruct((1, *experiment.shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)

    def forward(params: Params, x: Any, t: Any) -> Any:
        label = jnp.zeros(1, jnp.int32) if experiment.net.classes else None
        return experiment.net.apply({"params": params}, x, t, label)

    return float((jax.jit(forward).lower(params, x, t).cost_analysis() or {}).get("flops", float("nan")))
