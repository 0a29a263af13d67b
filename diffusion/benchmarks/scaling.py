"""Growth of cost with T, batch, image size, devices, data set and length of metrics.jsonl."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.comparison import JAX
from diffusion.benchmarks.sizes import Pace, Size
from diffusion.benchmarks.startup import timed
from diffusion.benchmarks.worker import Worker


class Curve(NamedTuple):
    """Cost as a function of one quantity."""

    name: str
    """Name of the quantity."""
    cost: str
    """What takes these seconds."""
    x: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """Exponent of the growth over the upper half of the range; 1 is linear."""
        x, seconds = list(self.x), list(self.seconds)
        i = len(x) // 2 - 1 if len(x) > 2 else 0
        return math.log(seconds[-1] / seconds[i]) / math.log(x[-1] / x[i])


class Ranges(NamedTuple):
    """Values of each quantity."""

    T: tuple[int, ...] = (100, 200, 500, 1000)
    batch: tuple[int, ...] = (16, 32, 64, 128, 256)
    side: tuple[int, ...] = (8, 16, 32, 64)
    devices: tuple[int, ...] = (1, 2, 4, 8)
    images: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    lines: tuple[int, ...] = (1_000, 10_000, 100_000)


QUICK = Ranges((10, 20), (2, 4), (8, 16), (1, 2), (64, 128), (10, 100))


def curves(size: Size, ranges: Ranges, pace: Pace, report: Callable[[str], None]) -> Iterator[Curve]:
    """Every curve, of the network of `size`."""
    with ExitStack() as stack:
        worker = stack.enter_context(closing(Worker(JAX)))
        batch = size.cpu["train"][0]
        base = {"config": size.config, "changes": size.changes, "shape": size.shape, "images": size.images}
        base |= {"batch": batch, "whole": True}

        def cost(request: Mapping[str, Any], on: Worker = worker) -> float:
            remote = on.make(request)
            unit = timing.alternate({JAX: remote}, pace.windows, pace.seconds)[JAX].seconds
            return unit * remote.facts.get("steps", 1)

        def curve(name: str, what: str, x: Sequence[int], request: Callable[[int], dict[str, Any]]) -> Curve:
            report(f"scaling: {name}")
            return Curve(name, what, tuple(x), tuple(cost({**base, **request(value)}) for value in x))

        yield curve("T", "a chain", ranges.T, lambda T: {**chain, "changes": {**size.changes, "diffusion.T": T}})
        yield curve("batch", "a training step", ranges.batch, lambda n: {"measure": "train", "batch": n})
        square = curve("side", "a forward", ranges.side, lambda n: {**small, "shape": (n, n, size.shape[-1])})
        yield square._replace(name="pixels of an image", x=tuple(n * n for n in square.x))
        report("scaling: devices")
        yield Curve("devices", "a training step", ranges.devices, tuple(map(_on(base, cost), ranges.devices)))
        yield curve("images of the data set", "a training step", ranges.images, lambda n: {**train, "images": n})
    report("scaling: folder")
    yield Curve("lines of metrics.jsonl", "resuming a run", ranges.lines, tuple(map(folder, ranges.lines)))


chain: dict[str, Any] = {"measure": "chain", "batch": 4}
small: dict[str, Any] = {"measure": "forward", "batch": 16}
train: dict[str, Any] = {"measure": "train"}


def _on(base: Mapping[str, Any], cost: Callable[..., float]) -> Callable[[int], float]:
    """(devices) -> seconds of a training step of the same global batch on that many devices forced on this CPU."""

    def measured(devices: int) -> float:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
        with closing(Worker(JAX, {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"})) as worker:
            return cost({**base, **train, "batch": max(base["batch"], devices)}, worker)

    return measured


def folder(lines: int) -> float:
    """Seconds for opening a metrics.jsonl of this many lines to resume from its last line."""
    from diffusion.workdir.writer import Writer

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "metrics.jsonl"
        row = {"train/loss": 0.0312, "train/grad_norm": 0.1, "perf/images_per_second": 1000.0}
        path.write_text("".join(json.dumps({"step": step, **row}) + "\n" for step in range(1, lines + 1)))
        return min(timed(lambda: Writer(Path(scratch), lines).close()) for _ in range(3))
