"""The order of it all: for each network two workers, for each measure both in turn, and a row of what came."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from diffusion.benchmarks import machine, timing
from diffusion.benchmarks.sizes import MEASURES, Pace, Size
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.worker import Remote, Worker

OURS, RIVAL = "ours", "rival"
PEAK, TRAIN, FORWARD, ELBO, FEATURES = "peak", "train", "forward", "elbo", "features"
ALONE = (ELBO, FEATURES)
"""Measures that the rival does not have."""


class Row(NamedTuple):
    """One line of the table."""

    net: str
    measure: str
    batch: int
    ours: Timing
    rival: Timing | None
    facts: Mapping[str, Mapping[str, Any]]
    """Of each side."""
    peak: float = 0.0
    """FLOP/s of the machine's matrix products; 0: not measured."""
    memory: Mapping[str, int] = {}
    """Peak bytes of each side, where they are of this row alone."""
    stolen: float = 0.0
    """Share of the processor time meanwhile that the machine's host took away."""

    @property
    def steps(self) -> int:
        """Units that a batch of results takes: the length of a chain."""
        return self.facts[OURS].get("steps", 1)

    @property
    def estimated(self) -> bool:
        """Whether a chain is judged by a part of it."""
        return bool(self.facts[OURS].get("estimated", False))

    def images(self, side: Timing) -> float:
        """Images per second."""
        return self.batch / (side.seconds * self.steps)

    @property
    def ratio(self) -> float | None:
        """Our time over the rival's."""
        return None if self.rival is None else timing.ratio(self.ours, self.rival)

    @property
    def share(self) -> float | None:
        """Of the machine's matrix products, by counted operations; None where either is not known."""
        flop = self.facts[OURS].get("flop", 0.0) * self.batch
        return flop / self.ours.seconds / self.peak if self.peak and flop else None


class Settings(NamedTuple):
    """How it is measured."""

    measures: Sequence[str]
    pace: Pace
    rival: bool = False
    modes: int = 0
    """How many of the rival's modes are tried; 0: all."""
    whole: bool | None = None
    """Whether chains are timed from end to end; None: where the platform is no CPU."""
    small: Mapping[str, int] = {}
    """For a dry run: rows of the matrix product, height of Inception's images."""
    env: Mapping[str, str] = {}
    """Set for the workers."""


def contest(name: str, size: Size, settings: Settings, say: Callable[[str], None]) -> Iterator[Row]:
    """The rows of one network, as they are measured. Raises ValueError where a side cannot be measured.

    The peak is measured first and the training step second, so that peak memory is that of training.
    """
    with ExitStack() as stack:
        ours = stack.enter_context(closing(Worker(OURS, settings.env)))
        request: dict[str, Any] = {"config": size.config, "changes": dict(size.changes), "shape": size.shape}
        request |= {"images": size.images, "modes": settings.modes, "batch": 1}
        request |= settings.small
        top = ours.make({**request, "measure": PEAK})
        platform = top.facts["platform"]
        if not platform.startswith("cpu"):
            request["changes"]["net.dtype"] = "bfloat16"
            top = ours.make({**request, "measure": PEAK})
        found = timing.alternate({OURS: top}, settings.pace.windows, settings.pace.seconds)[OURS]
        limit = top.facts["flop"] / min(found.windows)  # a limit is what was reached once
        say(f"{name}: matrix products of {top.facts['dtype']} reach {limit / 1e9:.4g} GFLOP/s")
        yield Row(name, PEAK, top.facts["side"], found, None, {OURS: {**top.facts, "flop": 0.0}}, limit)

        request["whole"] = (not platform.startswith("cpu")) if settings.whole is None else settings.whole
        rival = stack.enter_context(closing(Worker(RIVAL, settings.env))) if settings.rival else None
        for measure in MEASURES:
            if measure in settings.measures:
                for batch in size.batches(platform)[measure]:
                    say(f"{name}: {MEASURES[measure]}, batch {batch}")
                    beside = None if measure in ALONE else rival
                    row = one(name, {**request, "measure": measure, "batch": batch}, ours, beside, settings.pace, limit)
                    if measure == FORWARD and beside:  # compiling is slow: chains run in the mode that was best here
                        request["mode"] = row.facts[RIVAL]["mode"]
                    yield row


def one(name: str, request: Mapping[str, Any], ours: Worker, rival: Worker | None, pace: Pace, limit: float) -> Row:
    """One row. Raises ValueError where the two networks do not have the same number of parameters."""
    sides = {OURS: ours.make(request), **({RIVAL: rival.make(request)} if rival else {})}
    found, taken = side_by_side(sides, pace)
    measured = {TRAIN: {side: worker.memory() for side, worker in ((OURS, ours), (RIVAL, rival)) if worker}}
    facts = {side: remote.facts for side, remote in sides.items()}
    memory = measured.get(request["measure"], {})
    return Row(name, request["measure"], request["batch"], found[OURS], found.get(RIVAL), facts, limit, memory, taken)


def side_by_side(sides: Mapping[str, Remote], pace: Pace) -> tuple[dict[str, Timing], float]:
    """What each side took, and the share of processor time that the host took meanwhile; raises as `alike` does."""
    alike({side: remote.facts for side, remote in sides.items()})
    before = machine.ticks()
    found = timing.alternate(sides, pace.windows, pace.seconds)
    return found, machine.stolen(before, machine.ticks())


def alike(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where the networks of the sides do not have the same number of parameters."""
    counts = {side: n for side, known in facts.items() if (n := known.get("parameters"))}
    if len(set(counts.values())) > 1:
        raise ValueError(f"the networks differ: parameters {counts}; they cannot be compared")


def best(rows: Sequence[Row], side: Callable[[Row], Timing | None]) -> dict[tuple[str, str], int]:
    """(net, measure) -> the batch with the most images per second."""
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for row in rows:
        timed = side(row)
        if timed is not None:
            key = (row.net, row.measure)
            found[key] = max(found.get(key, (0.0, 0)), (row.images(timed), row.batch))
    return {key: batch for key, (_, batch) in found.items()}
