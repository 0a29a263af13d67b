"""The results as a Markdown table and as JSON."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diffusion.benchmarks.benchmarked_networks import MEASURES, PEAK
from diffusion.benchmarks.compare_with_baseline import BASELINE, JAX, Row
from diffusion.benchmarks.timing import Timing
from diffusion.published.render_tables import pipe_table
from diffusion.runtime import provenance
from diffusion.runtime.format_numbers import quantity

HEAD = ("net", "measure", "batch", "jax", "images/s", "of peak", "baseline", "images/s", "jax / baseline")


def markdown(rows: Sequence[Row]) -> str:
    """The table, and below it the peak memory of training."""
    parts = [pipe_table(HEAD, [line(row, rows) for row in rows])]
    if memory := [(r.net, str(r.batch), *(f"{n / 1e9:.2f} GB" for n in r.memory.values())) for r in rows if r.memory]:
        head = ("net", "batch", "peak memory, training, jax", "baseline")
        parts.append(pipe_table(head[: len(memory[0])], memory))
    return "\n\n".join(parts)


def line(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    """The cells of a row. * marks the batch with the most images a second of several."""
    if row.measure == PEAK:
        rate = f"{row.peak / 1e9:.4g} GFLOP/s"
        return row.net, "matrix product", str(row.batch), timed(row.timings[JAX]), "-", rate, "-", "-", "-"
    alike = [other for other in rows if (other.net, other.measure) == (row.net, row.measure)]
    mark = "*" if len(alike) > 1 and row == max(alike, key=lambda other: other.images(JAX)) else ""
    cells = []
    for side in (JAX, BASELINE):
        known = side in row.timings
        cells.append((timed(row.timings[side]), f"{row.images(side):.4g}") if known else ("-", "-"))
    share = "-" if row.share is None else f"{100 * row.share:.0f}%"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return row.net, MEASURES[row.measure], f"{row.batch}{mark}", *cells[0], share, *cells[1], ratio


def timed(timing: Timing) -> str:
    """A median with its spread in percent."""
    return f"{quantity(timing.seconds, 's')} ±{100 * timing.spread:.0f}%"


def content(row: Row) -> dict[str, Any]:
    """A row as JSON."""
    names = ("net", "measure", "batch", "steps", "ratio", "share", "peak")
    sides = {
        side: {
            **timing._asdict(),
            **{"seconds": timing.seconds, "images_per_second": row.images(side), "facts": dict(row.facts[side])},
        }
        for side, timing in row.timings.items()
    }
    return {**{name: getattr(row, name) for name in names}, "memory": dict(row.memory), "sides": sides}


def machine() -> dict[str, Any]:
    """Processor, memory, load, versions and the settings that matter."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "environment": {name: os.environ[name] for name in ("XLA_FLAGS", "JAX_PLATFORMS") if name in os.environ},
        **provenance.stamp(processor()),
    }


def processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the processor; of its architecture where there is none."""
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
