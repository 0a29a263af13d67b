"""The order of measurements: for each network two workers, for each measure both in turn, and a row of results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.sizes import MEASURES, Pace, Size
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.worker import Worker

JAX, BASELINE = "jax", "baseline"
PEAK, TRAIN, FORWARD, ELBO, FEATURES = "peak", "train", "forward", "elbo", "features"
ALONE = (ELBO, FEATURES)
"""Measures that the baseline does not have."""


class Row(NamedTuple):
    """One line of the table."""

    net: str
    measure: str
    batch: int
    jax: Timing
    baseline: Timing | None
    facts: Mapping[str, Mapping[str, Any]]
    """side -> parameters, operations, versions, ..."""
    peak: float = 0.0
    """FLOP/s of matrix products on this machine; 0: not measured."""
    memory: Mapping[str, int] = {}
    """Peak bytes of each side, for training alone."""

    @property
    def steps(self) -> int:
        """Units of work per batch of results: the length of a chain."""
        return self.facts[JAX].get("steps", 1)

    @property
    def estimated(self) -> bool:
        """Whether the time of a chain is extrapolated from a segment."""
        return bool(self.facts[JAX].get("estimated", False))

    def images(self, side: Timing) -> float:
        """Images per second."""
        return self.batch / (side.seconds * self.steps)

    @property
    def ratio(self) -> float | None:
        """Time of jax over that of the baseline."""
        return None if self.baseline is None else timing.ratio(self.jax, self.baseline)

    @property
    def share(self) -> float | None:
        """Counted operations per second over the peak; None where either is unknown."""
        flop = self.facts[JAX].get("flop", 0.0) * self.batch
        return flop / self.jax.seconds / self.peak if self.peak and flop else None


class Settings(NamedTuple):
    """Measures, windows and sides."""

    measures: Sequence[str]
    pace: Pace
    baseline: bool = False
    modes: int = 0
    """Number of compilation modes of the baseline that are tried; 0: all."""
    whole: bool | None = None
    """Whether whole chains are timed; None: on accelerators alone."""
    small: Mapping[str, int] = {}
    """For a dry run: rows of the matrix product, height of the images of Inception."""
    env: Mapping[str, str] = {}
    """Environment variables of the workers."""


def compare(name: str, size: Size, settings: Settings, report: Callable[[str], None]) -> Iterator[Row]:
    """The rows of one network, in the order of measurement. Raises ValueError where a side cannot be measured.

    The peak is measured first and the training step second, so that peak memory is that of training.
    """
    with ExitStack() as stack:
        jax = stack.enter_context(closing(Worker(JAX, settings.env)))
        request: dict[str, Any] = {"config": size.config, "changes": dict(size.changes), "shape": size.shape}
        request |= {"images": size.images, "modes": settings.modes, "batch": 1}
        request |= settings.small
        peak = jax.make({**request, "measure": PEAK})
        platform = peak.facts["platform"]
        if not platform.startswith("cpu"):
            request["changes"]["net.dtype"] = "bfloat16"
            peak = jax.make({**request, "measure": PEAK})
        measured = timing.alternate({JAX: peak}, settings.pace.windows, settings.pace.seconds)[JAX]
        limit = peak.facts["flop"] / min(measured.windows)  # the best window: a limit
        report(f"{name}: matrix products of {peak.facts['dtype']} reach {limit / 1e9:.4g} GFLOP/s")
        facts = {JAX: {**peak.facts, "flop": 0.0}}
        yield Row(name, PEAK, peak.facts["side"], measured, None, facts, limit)

        request["whole"] = (not platform.startswith("cpu")) if settings.whole is None else settings.whole
        baseline = stack.enter_context(closing(Worker(BASELINE, settings.env))) if settings.baseline else None
        for measure in MEASURES:
            if measure in settings.measures:
                for batch in size.batches(platform)[measure]:
                    report(f"{name}: {MEASURES[measure]}, batch {batch}")
                    other = None if measure in ALONE else baseline
                    request |= {"measure": measure, "batch": batch}
                    row = measure_row(name, request, jax, other, settings.pace, limit)
                    if measure == FORWARD and other:  # compiling is slow: chains run in the mode that was fastest here
                        request["mode"] = row.facts[BASELINE]["mode"]
                    yield row


def measure_row(
    name: str, request: Mapping[str, Any], jax: Worker, baseline: Worker | None, pace: Pace, limit: float
) -> Row:
    """One row of the table. Raises ValueError where the two networks do not have the same number of parameters."""
    sides = {JAX: jax.make(request), **({BASELINE: baseline.make(request)} if baseline else {})}
    check_parameters({side: remote.facts for side, remote in sides.items()})
    timings = timing.alternate(sides, pace.windows, pace.seconds)
    memories = {TRAIN: {side: worker.memory() for side, worker in ((JAX, jax), (BASELINE, baseline)) if worker}}
    facts = {side: remote.facts for side, remote in sides.items()}
    memory = memories.get(request["measure"], {})
    return Row(name, request["measure"], request["batch"], timings[JAX], timings.get(BASELINE), facts, limit, memory)


def check_parameters(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where the networks of the sides do not have the same number of parameters."""
    counts = {side: n for side, each in facts.items() if (n := each.get("parameters"))}
    if len(set(counts.values())) > 1:
        raise ValueError(f"the networks differ: parameters {counts}; they cannot be compared")


def best(rows: Sequence[Row], side: Callable[[Row], Timing | None]) -> dict[tuple[str, str], int]:
    """(net, measure) -> the batch with the most images per second."""
    fastest: dict[tuple[str, str], tuple[float, int]] = {}
    for row in rows:
        timed = side(row)
        if timed is not None:
            key = (row.net, row.measure)
            fastest[key] = max(fastest.get(key, (0.0, 0)), (row.images(timed), row.batch))
    return {key: batch for key, (_, batch) in fastest.items()}
