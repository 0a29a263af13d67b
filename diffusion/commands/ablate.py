"""Running the cells of an ablation, and the table of what they gave."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from diffusion.commands import previews
from diffusion.commands import train as training
from diffusion.config.ablation import RESULT, Cell, Grid, read
from diffusion.config.config import config_hash
from diffusion.distributed.sharding import make_mesh
from diffusion.evaluation.summary import Findings, measure
from diffusion.experiment import build, load
from diffusion.figures.grid import save
from diffusion.published import layout
from diffusion.published.layout import BOUND, Column, Line, Table
from diffusion.runtime.files import write_json
from diffusion.runtime.signals import Stop
from diffusion.runtime.text import describe_devices, duration
from diffusion.training.loop import Diverged
from diffusion.workdir.run import nested, read_run, stamp

ABSURD = 10_000.0
"""Bits/dim from which a bound is no result, even if it is finite. Less may just be little training: a learned variance
starts at 1, which costs about 3 bits/dim a step."""

NOISE_SCALE = Column("noise_scale", "gradient noise scale", "gradient noise scale", 0)

Say = Callable[[str], None]


class Ended(NamedTuple):
    """What became of a cell."""

    findings: Findings | None
    numbers: dict[str, float]
    """The scalars found."""
    first: int
    """The step from which its run went on when it was run for the last time."""
    fault: str
    """Why it counts as diverged; empty if it does not."""


def run(
    grid: Grid,
    cells: Sequence[Cell],
    say: Say,
    finished: Callable[[], object] = lambda: None,
    stop: Stop | None = None,
) -> None:
    """Runs the cells that have no result yet, those that train first; `finished` is called after each.

    A cell whose numbers do not stay finite gets the result "diverged" and the sweep goes on. Raises ValueError where a
    folder belongs to another config, and where a cell evaluates a run that is not finished; Stopped, the state of the
    cell's run saved, when `stop` was asked for.
    """
    known = [cell for cell in cells if cell.result()]
    for cell in sorted(cells, key=lambda cell: (not cell.trains, cell.index)):
        say(
            f"row         {cell.index}: {cell.row.label}, seed {cell.seed}"
            + (" (done before)" if cell in known else "")
        )
        if cell in known:
            continue
        start = time.monotonic()
        ended = train(cell, say, stop) if cell.trains else evaluate(cell, say)
        result = record(grid, cell, ended, time.monotonic() - start)
        write_json(cell.folder / RESULT, result)
        say(f"DIVERGED    {ended.fault}" if ended.fault else f"done        in {duration(result['seconds'])}")
        finished()
        jax.clear_caches()  # each cell compiles programs of its own; kept, they would add up


def train(cell: Cell, say: Say, stop: Stop | None = None) -> Ended:
    """A run of its own, or the rest of one that stopped."""
    try:
        outcome = training.run(cell.config, cell.folder, say, stop)
    except Diverged as error:
        return Ended(None, {}, 0, str(error))
    found = outcome.findings
    return Ended(found, found.report() | noise_scale(cell.folder), outcome.first, fault(found))


def evaluate(cell: Cell, say: Say) -> Ended:
    """Another look at the run of another row. Raises ValueError if that run is not finished."""
    config = cell.config
    theirs = read(cell.trained)
    if theirs is None:
        raise ValueError(
            f"row {cell.index} ({cell.row.label!r}) evaluates the run in {cell.trained}, which is not finished; "
            f"run the row {cell.row.run!r} with the same seed first"
        )
    if theirs["diverged"]:
        return Ended(None, {}, 0, f"its run, that of row {cell.row.run!r}, has diverged")
    run = read_run(cell.trained)
    ours, params, step = load.load(cell.trained, run._replace(config=config), config.train.steps)
    source, held_out = build.sources(config)
    findings = measure(ours, source, held_out, params)
    cell.folder.mkdir(parents=True, exist_ok=True)
    path = cell.folder / f"step_{step:07d}_{config.sample.sampler}.png"
    save(previews.picture(findings.drawn), path)
    for line in [*findings.lines(), f"samples     {path}"]:
        say(line)
    return Ended(findings, findings.report(), step, fault(findings))


def noise_scale(folder: Path) -> dict[str, float]:
    """The gradient noise scale at the end of a run, in examples; nothing where it was not measured."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = [value for line in lines if (value := line.get(f"eval/{NOISE_SCALE.key}")) is not None]
    return {NOISE_SCALE.key: values[-1]} if values else {}


def fault(findings: Findings) -> str:
    """Why findings are those of a network that diverged; empty if they are not."""
    if findings.broken:
        return f"{findings.broken} of {len(findings.drawn)} samples are not finite"
    total = findings.likelihood.total if findings.likelihood else 0.0
    return "" if math.isfinite(total) and total < ABSURD else f"the bound is {total:.3g} bits/dim"


def record(grid: Grid, cell: Cell, ended: Ended, seconds: float) -> dict[str, Any]:
    """The content of a cell's result file; numbers that are not finite are null."""
    c, found = cell.config, ended.findings
    return {
        "grid": grid.name,
        "row": cell.row.label,
        "seed": cell.seed,
        "diverged": bool(ended.fault),
        "fault": ended.fault,
        "results": {name: value if math.isfinite(value) else None for name, value in ended.numbers.items()},
        "score": found.score.name if found and found.score else None,
        "steps": c.train.steps,
        "seconds": round(seconds, 1),
        "first_step": ended.first,
        "protocol": protocol(cell, found),
        "config": nested(c),
        "config_hash": config_hash(c),
        **stamp(describe_devices(list(make_mesh().devices.flat))),
    }


def protocol(cell: Cell, found: Findings | None) -> dict[str, Any]:
    """What a number must be quoted with."""
    c = cell.config
    given = {
        "data": c.data.name,
        "training steps": c.train.steps,
        "images per step": c.train.batch_size,
        "T": c.diffusion.T,
        "weights": "moving average",
        "x_0_hat clipped": "yes" if c.sample.clip else "no",
    }
    if found:
        given["samples"] = len(found.drawn)
    if found and found.likelihood:
        given["held-out images for the bound"] = found.likelihood.images
    if found and found.score:
        s = found.score
        given[s.name] = (
            f"Fréchet distance of the samples from {s.reference} training images in the features of a classifier of "
            f"this data, not an FID; {s.floor_images} real held-out images have {s.floor:.2f}"
        )
    return given


def table(grid: Grid, cells: Sequence[Cell]) -> Table:
    """What is known so far."""
    results = {cell.index: found for cell in cells if (found := cell.result())}
    lines = []
    for row in grid.rows:
        ours = [results[cell.index] for cell in cells if cell.row == row and cell.index in results]
        done = [result for result in ours if not result["diverged"]]
        values: dict[str, list[float]] = {}
        for result in done:
            for name, value in result["results"].items():
                if value is not None:
                    values.setdefault(name, []).append(value)
        lines.append(Line(row.label, values, len(done), len(ours) - len(done), row.paper))
    scores = dict.fromkeys(result["score"] for result in results.values() if result["score"])
    columns = [*BOUND, NOISE_SCALE, *(Column(name, name, layout.escaped(name), 2) for name in scores)]
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return Table(grid.title, caption(grid, list(results.values()), seeds), lines, columns)


def caption(grid: Grid, results: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    """The protocol of the results: what is the same for all, what differs, what the spread is."""
    said: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result["protocol"].items():
            said.setdefault(name, {})[str(value)] = None
    parts = [f"{name}: {' or '.join(values)}" for name, values in said.items()]
    spread = f"Mean ± sample standard deviation over seeds {', '.join(map(str, seeds))} (n = {len(seeds)})."
    measured = f"Protocol: {'; '.join(parts)}." if parts else ""
    return " ".join(filter(None, [spread if len(seeds) > 1 else f"Seed {seeds[0]} (n = 1).", measured, grid.note]))


def write(made: Table, folder: Path) -> list[Path]:
    """table.md, table.csv and table.tex in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, text in (("md", layout.markdown), ("csv", layout.comma_separated), ("tex", layout.latex)):
        path = folder / f"table.{suffix}"
        path.write_text(text(made))
        paths.append(path)
    return paths
