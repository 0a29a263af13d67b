"""Growth of cost with T, batch, image size, devices and data set."""

import math
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.benchmarked_networks import FORWARD, TRAIN, Size
from diffusion.benchmarks.compare_with_baseline import JAX, MODULES, Settings
from diffusion.benchmarks.workload_subprocess import WorkloadProcess


class Quantity(NamedTuple):
    """A quantity on which the cost depends."""

    cost: str
    """What takes the seconds."""
    values: tuple[int, ...]
    request: Callable[[Size, int], dict[str, Any]]
    """What its value changes in the request of a training step."""


def _pixels(size: Size, pixels: int) -> dict[str, Any]:
    side = math.isqrt(pixels)
    return {"measure": FORWARD, "batch": 16, "shape": (side, side, size.shape[-1])}


QUANTITIES = {
    "T": Quantity(
        "a chain",
        (100, 200, 500, 1000),
        lambda size, T: {"measure": "chain", "batch": 4, "changes": {**size.changes, "diffusion.T": T}},
    ),
    "batch": Quantity("a training step", (16, 32, 64, 128, 256), lambda _, n: {"batch": n}),
    "pixels of an image": Quantity("a forward", (64, 256, 1024, 4096), _pixels),
    "devices": Quantity("a training step", (1, 2, 4, 8), lambda _, n: {"devices": n}),
    "images of the data set": Quantity(
        "a training step", (1000, 10_000, 100_000, 1_000_000), lambda _, n: {"images": n}
    ),
}


class Curve(NamedTuple):
    """Cost as a function of one quantity."""

    cost: str
    x: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """Exponent of the growth over the upper half of the range; 1 is linear."""
        i = max(len(self.x) // 2 - 1, 0)
        return math.log(self.seconds[-1] / self.seconds[i]) / math.log(self.x[-1] / self.x[i])


def measure(quantity: Quantity, values: tuple[int, ...], size: Size, settings: Settings) -> Curve:
    """The curve of a quantity, for the network of `size`."""
    base = {**size.request(), "measure": TRAIN, "batch": size.cpu[TRAIN][0], **settings.request}
    seconds = tuple(cost({**base, **quantity.request(size, value)}, settings) for value in values)
    return Curve(quantity.cost, values, seconds)


def cost(request: Mapping[str, Any], settings: Settings) -> float:
    """Seconds of a request in a process of its own; `devices`: that many devices are forced on this CPU.

    Of a chain, the whole is run.
    """
    env = dict(settings.env)
    if devices := request.get("devices"):
        flags = env.get("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        env["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
        env["JAX_PLATFORMS"] = "cpu"
    with closing(WorkloadProcess(MODULES[JAX], env)) as process:
        workload = process.make(request)
        steps = workload.facts.get("steps", 1)
        whole = workload._replace(quantum=steps)
        return timing.alternate({JAX: whole}, settings.windows, settings.seconds)[JAX].seconds * steps
