"""What a training step costs while a checkpoint is written behind it."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from statistics import median
from typing import Any, NamedTuple

from diffusion.benchmarks.comparison import OURS, Settings
from diffusion.benchmarks.sizes import Size
from diffusion.benchmarks.table import aligned, seconds
from diffusion.benchmarks.worker import Worker

ROUNDS, ALONE = 5, 5
"""Saves that are made, and steps that are timed before each."""


class Saving(NamedTuple):
    """Seconds, each a list over what was timed."""

    net: str
    batch: int
    alone: tuple[float, ...]
    """Of the steps without a save."""
    during: tuple[float, ...]
    """Of the steps that began while a save was going on."""
    handed: tuple[float, ...]
    """Of handing a state over, which training waits for."""
    written: tuple[float, ...]
    """From then until the checkpoint was sealed."""

    @property
    def ratio(self) -> float:
        """A step during a save over one without; 1 where every save ended before a step began."""
        return median(self.during) / median(self.alone) if self.during else 1.0


def saving(name: str, size: Size, settings: Settings, say: Callable[[str], None]) -> Saving:
    """One network at the batch of its training step."""
    say(f"{name}: steps during saves")
    request: dict[str, Any] = {"config": size.config, "changes": dict(size.changes), "shape": size.shape}
    request |= {"images": size.images, "batch": size.cpu["train"][0], "measure": "saving"}
    with closing(Worker(OURS, settings.env)) as worker:
        facts = worker.make(request).facts
    return Saving(name, request["batch"], **{key: tuple(facts[key]) for key in Saving._fields[2:]})


def measure(step: Callable[[], Any], checkpoints: Any) -> Mapping[str, list[float]]:
    """`step()` makes a step to its very end and returns the state; `checkpoints` writes what it returns."""
    found: dict[str, list[float]] = {"alone": [], "during": [], "handed": [], "written": []}
    state = step()
    for round in range(ROUNDS):
        for _ in range(ALONE):
            start = time.perf_counter()
            state = step()
            found["alone"].append(time.perf_counter() - start)
        start = time.perf_counter()
        checkpoints.save(round + 1, state)
        found["handed"].append(time.perf_counter() - start)
        while checkpoints.writing():
            begun = time.perf_counter()
            state = step()
            found["during"].append(time.perf_counter() - begun)
        found["written"].append(time.perf_counter() - start)
    return found


def markdown(found: list[Saving]) -> str:
    """A line for each network."""
    head = ("net", "batch", "step alone", "step during a save", "ratio", "handing over", "until sealed")
    middle = lambda values: seconds(median(values)) if values else "-"  # noqa: E731
    lines = [
        (s.net, f"{s.batch}", middle(s.alone), middle(s.during), f"{s.ratio:.2f}", middle(s.handed), middle(s.written))
        for s in found
    ]
    return aligned([head, *lines])
