"""The results as a Markdown table and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusion.benchmarks.comparison import Row, best
from diffusion.benchmarks.sizes import MEASURES, OTHERS
from diffusion.benchmarks.startup import Start
from diffusion.benchmarks.timing import Timing

HEAD = ("net", "measure", "batch", "jax", "images/s", "of peak", "baseline", "images/s", "jax / baseline")
NONE = "-"


def seconds(value: float) -> str:
    """Three digits and a unit."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def timed(timing: Timing | None) -> str:
    """A median with its spread in percent."""
    return NONE if timing is None else f"{seconds(timing.seconds)} ±{100 * timing.spread:.0f}%"


def line(row: Row, fastest: dict[tuple[str, str], int]) -> tuple[str, ...]:
    """The cells of a row. * marks the best batch of several, ~ a chain extrapolated from a segment."""
    several = fastest.get((row.net, row.measure)) == row.batch
    mark, about = "*" if several else "", "~" if row.estimated else ""
    name = (MEASURES | OTHERS)[row.measure]
    images = lambda timing: f"{about}{row.images(timing):.4g}" if timing else NONE  # noqa: E731
    compared = f"{row.ratio:.2f}" if row.ratio is not None else NONE
    if row.share is None:
        rate = f"{row.peak / 1e9:.4g} GFLOP/s"
        return row.net, name, f"{row.batch}", timed(row.jax), NONE, rate, NONE, NONE, NONE
    share = f"{100 * row.share:.0f}%"
    cells = (timed(row.jax), images(row.jax), share, timed(row.baseline), images(row.baseline), compared)
    return row.net, name, f"{row.batch}{mark}", *cells


def markdown(rows: Sequence[Row], starts: Sequence[Start], page: Sequence[float]) -> str:
    """The table, its lines aligned, and below it start-up times and peak memory."""
    counts = {(r.net, r.measure): sum((r.net, r.measure) == (o.net, o.measure) for o in rows) for r in rows}
    fastest = {key: batch for key, batch in best(rows, lambda row: row.jax).items() if counts[key] > 1}
    parts = [aligned([HEAD, *(line(row, fastest) for row in rows)])] if rows else []
    if starts:
        cells = [(s.net, f"{s.batch}", seconds(s.cold), seconds(s.warm)) for s in starts]
        parts.append(aligned([("net", "batch", "first step, cold", "compilation cache warm"), *cells]))
    if page:
        parts.append(f"scripts/train.py --help: {seconds(sorted(page)[len(page) // 2])}, median of {len(page)}")
    memory = [(r.net, f"{r.batch}", *(f"{r.memory.get(s, 0) / 1e9:.2f} GB" for s in r.facts)) for r in rows if r.memory]
    if memory:
        head = ("net", "batch", "peak memory, training, jax", "baseline")
        parts.append(aligned([head[: len(memory[0])], *memory]))
    return "\n\n".join(parts)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose lines have equal lengths."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(cells, widths, strict=True)] for cells in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def content(row: Row) -> dict[str, Any]:
    """A row as JSON."""
    sides = {"jax": row.jax, "baseline": row.baseline}
    return {
        **{"net": row.net, "measure": row.measure, "batch": row.batch, "units_per_image": row.steps},
        **{"estimated": row.estimated, "ratio": row.ratio, "share_of_peak": row.share, "peak_flops": row.peak},
        "memory_bytes": dict(row.memory),
        "sides": {
            side: {
                "seconds_per_unit": timing.seconds,
                "windows": list(timing.windows),
                "units_per_window": timing.units,
                "images_per_second": row.images(timing),
                "facts": dict(row.facts[side]),
            }
            for side, timing in sides.items()
            if timing is not None
        },
    }


def write(
    path: Path, context: dict[str, Any], rows: Sequence[Row], starts: Sequence[Start], page: Sequence[float]
) -> None:
    """The whole measurement as JSON; `context`: machine, versions and settings."""
    whole = {**context, "rows": [content(row) for row in rows], "startup": [s._asdict() for s in starts]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**whole, "help_seconds": list(page)}, indent=1) + "\n")
