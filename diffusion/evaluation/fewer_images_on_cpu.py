"""How many images previews and the final evaluation may use on this device.

64 samples of the CIFAR-10 network with 1000 steps take seconds on a GPU and hours on a CPU; the exact bound over its
10,000 test images takes minutes on a GPU and weeks on a CPU. On a CPU each evaluation is cut down to a stated number of
floating-point operations, by fewer images, and reports it. The cut depends on the network and the platform alone, never
on measured time, so a run stays reproducible.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.core.respacing import Grid
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import SAMPLERS
from diffusion.training.state import Params


class Budget(NamedTuple):
    """What one evaluation may cost."""

    flop: float
    """Floating-point operations; infinite where there is no limit."""
    forward: float
    """Floating-point operations of one network call on one image."""

    def images(self, wanted: int, calls: int | float) -> int:
        """How many of `wanted` images the budget allows at so many network calls each; possibly none."""
        return int(min(wanted, self.flop / (self.forward * calls)))

    def samples(self, experiment: Experiment, wanted: int, sampler: str = "", grid: Grid | None = None) -> int:
        """How many of `wanted` samples of a chain it allows; `sampler` and `grid` default to the config's."""
        if self.flop == float("inf"):
            return wanted
        return self.images(wanted, chain_calls(experiment, self.forward, sampler, grid))


UNLIMITED = Budget(float("inf"), 1.0)


def chain_calls(experiment: Experiment, forward: float, sampler: str = "", grid: Grid | None = None) -> float:
    """What a sample of a chain costs, in network calls on one image of `forward` operations each.

    A step counts as often as its sampler calls the network, and a guided call as two, with the label and without; the
    gradient of a classifier counts by its operations. `sampler` and `grid` default to the config's.
    """
    c, process, guide = experiment.config.sample, experiment.sampled(grid), experiment.guide
    step = SAMPLERS[sampler or c.sampler](process, experiment.process, experiment.variance, c)
    guided = np.asarray(process.base_t)[1:]
    if guide.interval:
        guided = guided[(guide.interval[0] <= guided) & (guided <= guide.interval[1])]
    gradient = gradient_flops(experiment) / forward if guide.learnt else 0.0
    return step.calls * (process.T + len(guided) * (guide.rows - 1 + gradient))


def gradient_flops(experiment: Experiment) -> float:
    """Floating-point operations of the gradient of the guiding classifier at one image."""
    learnt = experiment.guide.learnt
    assert learnt is not None
    gradient = jax.grad(lambda x, t, labels: learnt.log_prob(labels, x, t).sum())
    whole = jax.ShapeDtypeStruct((1,), jnp.int32)
    return _flops(gradient, jax.ShapeDtypeStruct((1, *experiment.shape), jnp.float32), whole, whole)


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

    return _flops(forward, params, x, t)


def _flops(function: Callable[..., Any], *shapes: Any) -> float:
    return float((jax.jit(function).lower(*shapes).cost_analysis() or {}).get("flops", float("nan")))
