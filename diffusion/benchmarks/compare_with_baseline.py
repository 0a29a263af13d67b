"""The order of measurements: for each network a process a side, for each measure both in turn; a row of results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.benchmarked_networks import FORWARD, MEASURES, PEAK, TRAIN, WITHOUT_BASELINE, Size
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.workload_subprocess import WorkloadProcess
from diffusion.runtime import command_line
from diffusion.runtime.short_error_text import reason

JAX, BASELINE = "jax", "baseline"
MODULES = {JAX: "diffusion.benchmarks.jax_workloads", BASELINE: "diffusion.benchmarks.torch_baseline.workloads"}
CPU_TABLES = {"JAX_PLATFORMS": "cpu"}
"""The baseline takes the tables of a process from this project, whose jax must leave the accelerator to PyTorch."""


class Row(NamedTuple):
    """One line of the table."""

    net: str
    measure: str
    batch: int
    timings: Mapping[str, Timing]
    """Side -> seconds per unit of work."""
    facts: Mapping[str, Mapping[str, Any]]
    """Side -> parameters, operations, versions, ..."""
    peak: float = 0.0
    """FLOP/s of matrix products on this machine; 0: not measured."""
    memory: Mapping[str, int] = {}
    """Peak bytes of each side, for training alone."""

    @property
    def steps(self) -> int:
        """Units of work per batch of results: the length of a chain."""
        return self.facts[JAX].get("steps", 1)

    def images(self, side: str) -> float:
        """Images per second."""
        return self.batch / (self.timings[side].seconds * self.steps)

    @property
    def ratio(self) -> float | None:
        """Time of jax over that of the baseline."""
        return timing.ratio(self.timings[JAX], self.timings[BASELINE]) if BASELINE in self.timings else None

    @property
    def share(self) -> float | None:
        """Counted operations per second over the peak; None where either is unknown."""
        flop = self.facts[JAX].get("flop", 0.0) * self.batch
        return flop / self.timings[JAX].seconds / self.peak if self.peak and flop else None


class Settings(NamedTuple):
    """Measures, windows and sides."""

    measures: Sequence[str]
    windows: int = 7
    seconds: float = 1.5
    """Length of a window, which is at least one unit of work."""
    baseline: bool = False
    request: Mapping[str, Any] = {}
    """Added to the request of every workload."""
    env: Mapping[str, str] = {}
    """Environment variables of the processes."""


def compare(
    name: str, size: Size, settings: Settings, report: Callable[[str], None], failed: list[str]
) -> Iterator[Row]:
    """The rows of one network, in the order of measurement. A row that cannot be measured is left out, reported, and
    added to `failed` with the reason. Raises errors of any kind where the matrix products cannot be measured.

    The peak of matrix products is measured in a process of its own and the training step first in the others, so that
    peak memory is that of training. On accelerators networks compute in bfloat16.
    """

    def process(side: str, env: Mapping[str, str]) -> WorkloadProcess:
        return stack.enter_context(closing(WorkloadProcess(MODULES[side], {**settings.env, **env})))

    request: dict[str, Any] = {**size.request(), "batch": 1, **settings.request}
    with ExitStack() as stack:
        alone = process(JAX, {})
        peak = alone.make({**request, "measure": PEAK})
        cpu = peak.facts["platform"].startswith("cpu")
        if not cpu:
            request["changes"]["net.dtype"] = "bfloat16"
            peak = alone.make({**request, "measure": PEAK})
        measured = timing.alternate({JAX: peak}, settings.windows, settings.seconds)
    limit = peak.facts["flop"] / min(measured[JAX].windows)  # the best window: a limit
    report(f"{name}: matrix products of {peak.facts['dtype']} reach {limit / 1e9:.4g} GFLOP/s")
    yield Row(name, PEAK, peak.facts["side"], measured, {JAX: {**peak.facts, "flop": 0.0}}, limit)

    with ExitStack() as stack:
        sides = {JAX: process(JAX, {})}
        if settings.baseline:
            sides[BASELINE] = process(BASELINE, CPU_TABLES)
        for measure in (measure for measure in MEASURES if measure in settings.measures):
            for batch in (size.cpu if cpu else size.accelerator)[measure]:
                report(f"{name}: {MEASURES[measure]}, batch {batch}")
                request |= {"measure": measure, "batch": batch}
                taking_part = {side: sides[side] for side in sides if side == JAX or measure not in WITHOUT_BASELINE}
                try:
                    row = measure_row(name, request, taking_part, settings)._replace(peak=limit)
                except Exception as error:  # lack of memory alone has many types
                    if command_line.traceback_wanted():
                        raise
                    failed.append(f"{name}: {MEASURES[measure]}, batch {batch}: {reason(error)}")
                    report(f"left out    {failed[-1]}")
                    continue
                if measure == FORWARD and BASELINE in row.facts:
                    request["modes"] = (row.facts[BASELINE]["mode"],)  # of chains: trying modes is slow
                yield row


def measure_row(name: str, request: Mapping[str, Any], sides: Mapping[str, WorkloadProcess], settings: Settings) -> Row:
    """One row of the table. Raises ValueError where the two networks do not have the same number of parameters."""
    workloads = {side: process.make(request) for side, process in sides.items()}
    facts = {side: workload.facts for side, workload in workloads.items()}
    check_parameters(facts)
    timings = timing.alternate(workloads, settings.windows, settings.seconds)
    memory = {side: process.memory() for side, process in sides.items()} if request["measure"] == TRAIN else {}
    return Row(name, request["measure"], request["batch"], timings, facts, memory=memory)


def check_parameters(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where the networks of the sides do not have the same number of parameters."""
    counts = {side: n for side, each in facts.items() if (n := each.get("parameters"))}
    if len(set(counts.values())) > 1:
        raise ValueError(f"the networks differ: parameters {counts}; they cannot be compared")
