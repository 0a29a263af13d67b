"""What is computed in another way on another platform: layers of the network, and the update of the parameters.

Results are equal but for rounding; sharding rules that split the state change it too.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffusion.distributed import sharding
from diffusion.experiment.registry_of_samplers_and_schedules import SHARDINGS
from diffusion.nets.bfloat16_with_float32_gradients import PLAIN, Compiler, float32_gradients
from diffusion.nets.cpu.layers import faster_layers
from diffusion.nets.gpu_norm import gpu_norms
from diffusion.training import optimizer, state_as_one_vector_on_gpu, weight_averages
from diffusion.training.optimizer import FUSED, IN_STAGES, Passes


@contextmanager
def layers(config: ConfigDict, mesh: Mesh, train: bool) -> Iterator[None]:
    """The context in which networks are traced: nets/cpu's faster layers on CPUs, if config.net.cpu_layers is set, and
    nets/gpu_norm.py's norms on GPUs.

    In training, layers that compute in bfloat16 have gradients in config.net.gradient_dtype.
    """
    platform = mesh.devices.flat[0].platform
    fast, wide = config.net.cpu_layers and platform == "cpu", train and config.net.gradient_dtype == "float32"
    gpu, split = platform == "gpu", SHARDINGS[config.train.sharding] is not sharding.REPLICATED
    by_device, whole = sharding.by_device(mesh, split), sharding.once_whole(mesh) if split else None
    compiler = PLAIN if platform == "cpu" or not (gpu or split) else Compiler(gpu, by_device, whole)
    with (
        float32_gradients(compiler) if wide else nullcontext(),
        faster_layers(train) if fast else nullcontext(),
        gpu_norms(train) if gpu else nullcontext(),
    ):
        yield


def adam(c: ConfigDict, passes: Passes = IN_STAGES) -> optimizer.Optimizer:
    """The optimiser of a config.optim, written for a platform."""
    rest = dict(warmup_steps=c.warmup_steps, clip=c.clip, beta_1=c.beta_1, beta_2=c.beta_2, eps=c.eps)
    update = optimizer.adam(c.lr, **rest, weight_decay=c.weight_decay, passes=passes)
    return weight_averages.averaged(update) if c.power_ema else update


def placed(config: ConfigDict, mesh: Mesh) -> dict[str, Any]:
    """The fields of an Update that depend on the devices: how it is written for their compiler, where its trees are."""
    passes = IN_STAGES if mesh.devices.flat[0].platform == "cpu" else FUSED
    split = SHARDINGS[config.train.sharding] is not sharding.REPLICATED
    places: dict[str, Any] = sharding.gathered(mesh) if split else {}
    if mesh.devices.flat[0].platform == "gpu" and not split:
        places = state_as_one_vector_on_gpu.PACKED
    return {"optimizer": adam(config.optim, passes), "passes": passes, **places}
