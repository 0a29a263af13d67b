"""Growth of cost with T, batch, image size, devices and data set."""

import math
import os
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.compare_with_baseline import JAX, MODULES, Settings
from diffusion.benchmarks.network_sizes import FORWARD, TRAIN, Size
from diffusion.benchmarks.workload_process import WorkloadProcess


class Quantity(NamedTuple):
    """A quantity on which the cost depends."""

    name: str
    cost: str
    """What takes the seconds."""
    values: tuple[int, ...]
    request: Callable[[Size, int], dict[str, Any]]
    """What its value changes in the request of a training step."""


def _steps(size: Size, T: int) -> dict[str, Any]:
    return {"measure": "chain", "batch": 4, "changes": {**size.changes, "diffusion.T": T}}


def _pixels(size: Size, pixels: int) -> dict[str, Any]:
    side = math.isqrt(pixels)
    return {"measure": FORWARD, "batch": 16, "shape": (side, side, size.shape[-1])}


QUANTITIES = (
    Quantity("T", "a chain", (100, 200, 500, 1000), _steps),
    Quantity("batch", "a training step", (16, 32, 64, 128, 256), lambda _, n: {"batch": n}),
    Quantity("pixels of an image", "a forward", (64, 256, 1024, 4096), _pixels),
    Quantity("devices", "a training step", (1, 2, 4, 8), lambda _, n: {"devices": n}),
    Quantity(
        "images of the data set", "a training step", (1000, 10_000, 100_000, 1_000_000), lambda _, n: {"images": n}
    ),
)


class Curve(NamedTuple):
    """Cost as a function of one quantity."""

    name: str
    cost: str
    x: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """Exponent of the growth over the upper half of the range; 1 is linear."""
        x, seconds = list(self.x), list(self.seconds)
        i = len(x) // 2 - 1 if len(x) > 2 else 0
        return math.log(seconds[-1] / seconds[i]) / math.log(x[-1] / x[i])


def measure(quantity: Quantity, values: tuple[int, ...], size: Size, settings: Settings) -> Curve:
    """The curve of a quantity, for the network of `size`."""
    base = {**size.request(), "measure": TRAIN, "batch": size.cpu[TRAIN][0], "whole": True, **settings.request}
    seconds = tuple(cost({**base, **quantity.request(size, value)}, settings) for value in values)
    return Curve(quantity.name, quantity.cost, values, seconds)


def cost(request: dict[str, Any], settings: Settings) -> float:
    """Seconds of a request in a process of its own; `devices`: that many devices are forced on this CPU."""
    env = dict(settings.env)
    if devices := request.get("devices"):
        flags = env.get("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        env["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
        env["JAX_PLATFORMS"] = "cpu"
    with closing(WorkloadProcess(MODULES[JAX], env)) as process:
        workload = process.make(request)
        unit = timing.alternate({JAX: workload}, settings.windows, settings.seconds)[JAX].seconds
        return unit * workload.facts.get("steps", 1)
