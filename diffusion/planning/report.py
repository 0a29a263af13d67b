"""An estimate as text for one screen, as a row of a table, and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from diffusion.planning.memory_and_time import Estimate, known
from diffusion.planning.targets import HARDWARE
from diffusion.runtime.format_numbers import duration, quantity

NOTE = "compiled, not run: times are what published peaks allow"


def lines(e: Estimate, per: str) -> list[str]:
    """The report on one target. `per`: what the numbers are of, such as "a step"."""
    cost, target = e.cost, e.target
    flop = sum(cost.flop.values())
    shown = [
        f"target       {target.name}: {target.count} x {target.model}; {per}, {NOTE}",
        f"memory       {verdict(e)}: {quantity(e.memory.arguments, 'B')} of state and data, "
        f"{quantity(e.memory.temporaries, 'B')} of temporaries on each device",
        f"work         {quantity(flop, 'FLOP')} of convolutions and products, {quantity(cost.bytes, 'B')} of memory "
        f"traffic on each device, {cost.kernels:,.0f} kernels",
    ]
    if known(e):
        shown.append(
            f"time         arithmetic {quantity(e.arithmetic, 's')}, memory {quantity(e.traffic, 's')}"
            + (f", links {quantity(e.links, 's')}" if cost.collectives else "")
            + f"; longest: {e.binds}"
        )
    for kind, c in cost.collectives.items():
        where = ", some in a loop" if c.looped else ""
        shown.append(f"collective   {c.count:,.0f} {kind}, {quantity(c.bytes, 'B')} in all{where}")
    for copy in cost.copies:
        shown.append(f"copy         {copy.times:,.0f} x {quantity(copy.bytes, 'B')} {copy.shape} {copy.name}")
    if known(e):
        low, high = (duration(3600 * hours) for hours in e.hours())
        shown.append(
            f"speed        {1 / e.longest:.3g} to {1 / e.shortest:.3g} steps/s (35% of peak to roofline): "
            f"{e.steps:,} steps take {low} to {high}"
        )
    return shown


def verdict(e: Estimate) -> str:
    """fits (or not): what it holds, of how much."""
    held = quantity(e.memory.total, "B")
    if not math.isfinite(e.usable):
        return f"holds {held}"
    room = quantity(abs(e.usable - e.memory.total), "B")
    end = f"{room} to spare" if e.fits else f"{room} too much"
    return f"{'fits' if e.fits else 'does not fit'}, {held} of {quantity(e.usable, 'B')}, {end}"


HEAD = ("", "memory", "fits", "traffic", "arithmetic", "memory time", "links", "kernels", "steps/s", "hours", "price")


def row(name: str, e: Estimate | str, price: float | None = None) -> tuple[str, ...]:
    """A row of the table; `e` is the line of an error where there is no program, `price` that of a chip-hour."""
    if isinstance(e, str):
        return (name, "", "not measured", *[""] * (len(HEAD) - 3))
    times = ("", "", "", f"{e.cost.kernels:,.0f}", "", "", "")
    if known(e):
        rates = between(1 / e.longest, 1 / e.shortest)
        paid = "" if price is None else between(*e.price(price))
        each = (quantity(t, "s") for t in (e.arithmetic, e.traffic, e.links))
        times = (*each, times[3], rates, between(*e.hours()), paid)
    fits = "yes" if e.fits else "no"
    return (name, quantity(e.memory.total, "B"), fits, quantity(e.cost.bytes, "B"), *times)


def between(low: float, high: float) -> str:
    """A range of numbers in three digits: 3.2-11, 480-1,400."""
    return "-".join(f"{float(f'{x:.3g}'):,.12g}" for x in (low, high))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as text, without columns that are empty."""
    used = [i for i in range(len(HEAD)) if i == 0 or any(row[i] for row in rows)]
    return _tabulated([HEAD[i] for i in used], [[row[i] for i in used] for row in rows])


def _tabulated(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, head, disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1)))


SEVERAL = """Several devices: a TPU's topology in chips, tpu:v5e:4x4 or tpu:v4:2x2x1; a GPU's number, gpu:h100:8.
ring: what a device sends per second where all pass data around in a ring."""


def hardware() -> str:
    """What --target=? prints: every model with the figures that times are computed from."""
    units = ("B", "FLOP/s", "FLOP/s", "B/s", "B/s")

    def shown(value: float, unit: str) -> str:
        return quantity(value, unit) if math.isfinite(value) and value else ""

    rows = [(name, *map(shown, facts[:5], units), facts.source) for name, facts in HARDWARE.items()]
    table = _tabulated(("one device", "memory", "bfloat16", "float32", "bandwidth", "ring", "source"), rows)
    return f"{table}\n\n{SEVERAL}"


def as_json(name: str, e: Estimate, per: str) -> dict[str, Any]:
    """Every number of the report, in bytes, operations and seconds; null where the target has no figures."""
    rates, hours = ([1 / e.longest, 1 / e.shortest], list(e.hours())) if known(e) else (None, None)
    return {
        "name": name,
        "target": e.target.name,
        "devices": e.target.count,
        "per": per,
        "fits": e.fits,
        "memory": {"total": e.memory.total, **e.memory._asdict(), "usable": _finite(e.usable)},
        "flop": e.cost.flop,
        "bytes": e.cost.bytes,
        "kernels": e.cost.kernels,
        "collectives": {kind: c._asdict() for kind, c in e.cost.collectives.items()},
        "copies": [{"name": k.name, "times": k.times, "bytes": k.bytes, "shape": k.shape} for k in e.cost.copies],
        "seconds": {"arithmetic": _finite(e.arithmetic), "memory": _finite(e.traffic), "links": e.links},
        "steps_per_second": rates,
        "hours": hours,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
