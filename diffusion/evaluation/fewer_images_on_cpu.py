"""How many images previews and the final evaluation may use on this device.

64 samples of the CIFAR-10 network with 1000 steps take seconds on a GPU and hours on a CPU; the exact bound over its
10,000 test images takes minutes on a GPU and weeks on a CPU. On a CPU each evaluation is cut down to a stated number of
floating-point operations, by fewer images, and reports it. The cut depends on the network and the platform alone, never
on measured time, so a run stays reproducible.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion.core.respacing import Grid
from diffusion.experiment.build import Experiment
from diffusion.training.state import Params


class Budget(NamedTuple):
    """What one evaluation may cost."""

    flop: float
    """Floating-point operations; infinite where there is no limit."""
    forward: float
    """Floating-point operations of one network call on one image."""

    def images(self, wanted: int, calls: int) -> int:
        """How many of `wanted` images the budget allows at so many network calls each; possibly none."""
        return int(min(wanted, self.flop / (self.forward * calls)))


UNLIMITED = Budget(float("inf"), 1.0)


def chain_calls(experiment: Experiment, sampler: str = "", grid: Grid | None = None) -> int:
    """Network calls on one image for a sample of a chain; `sampler` and `grid` default to the config's.

    A step counts as often as its sampler calls the network, and a guided call as two: with the label and without, or
    with a classifier, whose gradient costs about as much.
    """
    process, step = experiment.chain(sampler, grid)
    return step.calls * process.T * (1 + bool(experiment.guide.scale))


def forward_flops(experiment: Experiment) -> float:
    """Floating-point operations of one network evaluation of one image, as XLA counts them before optimisation.

    They are those of the plain network, also where nets/cpu/ computes it in another way.
    """

    def forward(params: Params, x: Any, t: Any) -> Any:
        label = jnp.zeros(1, jnp.int32) if experiment.net.classes else None
        return experiment.net.apply({"params": params}, x, t, label)

    params = jax.eval_shape(experiment.init, jax.random.key(0))
    x, t = jax.ShapeDtypeStruct((1, *experiment.shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    cost = jax.jit(forward).lower(params, x, t).cost_analysis() or {}
    return float(cost.get("flops", float("nan")))
