"""The 3x3 convolutions of a network, one by one and in each of their roles, beside the rival's; and whole passes.

They are the part of a pass that no arrangement around them can save.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.contest import FORWARD, OURS, RIVAL, TRAIN, Row, Settings, one
from diffusion.benchmarks.sizes import MEASURES, Pace, Size
from diffusion.benchmarks.table import NONE, aligned, seconds
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.worker import Worker

ROLES = {"forward": "forward", "input": "gradient of the input", "kernel": "gradient of the kernel"}
HEAD = ("net", "batch", "map", "channels", "of them", *(f"{name}, ratio" for name in ROLES.values()))
PASSES = {FORWARD: ("forward",), TRAIN: tuple(ROLES)}
"""The roles of a convolution in each pass."""
PASS_HEAD = ("net", "pass", "batch", "ours", "convolutions", "rival", "convolutions", "ours / rival")
LIMIT_HEAD = "our convolutions / rival"
PRIMITIVE = "conv_general_dilated"
SHARE = 0.2
"""Of a window's length: there are many of them, and short ones."""


class Shape(NamedTuple):
    """What distinguishes one convolution from another."""

    height: int
    width: int
    inputs: int
    outputs: int


class Line(NamedTuple):
    """A convolution of a network."""

    net: str
    batch: int
    shape: Shape
    count: int
    """How many of them the network has."""
    found: Mapping[str, Mapping[str, Timing]]
    """role -> side -> seconds of one call."""


def shapes(jaxpr: Any) -> Counter[Shape]:
    """The 3x3 convolutions of stride 1 in a traced network, and how often each is met."""
    found: Counter[Shape] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == PRIMITIVE:
            x, kernel = (variable.aval.shape for variable in equation.invars)
            if kernel[:2] == (3, 3) and set(equation.params["window_strides"]) == {1}:
                found[Shape(*x[1:3], *kernel[2:])] += 1
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                found += shapes(inner.jaxpr)
    return found


def measure(name: str, size: Size, settings: Settings, say: Callable[[str], None]) -> tuple[list[Line], list[Row]]:
    """Every kind of convolution of one network, at the batch of its training step, both sides in turn; then PASSES."""
    with ExitStack() as stack:
        workers = {OURS: stack.enter_context(closing(Worker(OURS, settings.env)))}
        if settings.rival:
            workers[RIVAL] = stack.enter_context(closing(Worker(RIVAL, settings.env)))
        request: dict[str, Any] = {"config": size.config, "changes": dict(size.changes), "shape": size.shape}
        request |= {"images": size.images, "modes": settings.modes}
        peak = workers[OURS].make({**request, **settings.small, "measure": "peak"})
        platform = peak.facts["platform"]
        if not platform.startswith("cpu"):
            request["changes"]["net.dtype"] = "bfloat16"
        request["batch"] = size.batches(platform)[TRAIN][0]
        known = workers[OURS].make({**request, "measure": "convolutions"}).facts["convolutions"]
        pace = Pace(settings.pace.windows, SHARE * settings.pace.seconds)
        lines = []
        for *numbers, count in sorted(known, reverse=True):
            shape = Shape(*numbers)
            say(f"{name}: convolution of {shape.inputs} to {shape.outputs} channels at {shape.height}x{shape.width}")
            found = {}
            for role in ROLES:
                told = {**request, "measure": "convolution", "convolution": list(shape), "role": role}
                sides = {side: worker.make(told) for side, worker in workers.items()}
                found[role] = timing.alternate(sides, pace.windows, pace.seconds)
            lines.append(Line(name, request["batch"], shape, count, found))
        rows = []
        for kind in PASSES:
            say(f"{name}: {MEASURES[kind]}, whole")
            rows.append(one(name, {**request, "measure": kind}, workers[OURS], workers.get(RIVAL), settings.pace, 0.0))
        return lines, rows


def markdown(found: Sequence[Line]) -> str:
    """A line for each kind; below those of a network the sum over all its convolutions."""
    cells: list[tuple[str, ...]] = []
    for name in dict.fromkeys(line.net for line in found):
        mine = [line for line in found if line.net == name]
        for line in mine:
            one = (f"{line.shape.height}x{line.shape.width}", f"{line.shape.inputs} to {line.shape.outputs}")
            cells.append((name, f"{line.batch}", *one, f"{line.count}", *(_cell([line], role) for role in ROLES)))
        count = sum(line.count for line in mine)
        cells.append((name, f"{mine[0].batch}", "all", "", f"{count}", *(_cell(mine, role, True) for role in ROLES)))
    return aligned([HEAD, *cells])


def passes(found: Sequence[Line], rows: Sequence[Row]) -> str:
    """Whole passes of each network, and what their convolutions alone take of them.

    The last column is the ratio that would be left if everything but convolutions took no time.
    """
    cells: list[tuple[str, ...]] = []
    for row in rows:
        mine = [line for line in found if line.net == row.net]
        alone = {side: _sum(mine, PASSES[row.measure], side) for side in (OURS, RIVAL) if side in row.facts}
        first = (row.net, MEASURES[row.measure], f"{row.batch}", seconds(row.ours.seconds), seconds(alone[OURS]))
        rest = (NONE,) * 4
        if row.rival is not None:
            limit = alone[OURS] / row.rival.seconds
            rest = (seconds(row.rival.seconds), seconds(alone[RIVAL]), f"{row.ratio:.2f}", f"{limit:.2f}")
        cells.append((*first, *rest))
    return aligned([(*PASS_HEAD, LIMIT_HEAD), *cells])


def _sum(found: Sequence[Line], roles: Sequence[str], side: str) -> float:
    """Seconds of all convolutions of a network in these roles."""
    return sum(line.count * line.found[role][side].seconds for line in found for role in roles)


def content(line: Line) -> dict[str, Any]:
    """A line as JSON."""
    windows = {role: {side: list(t.windows) for side, t in sides.items()} for role, sides in line.found.items()}
    return {"net": line.net, "batch": line.batch, **line.shape._asdict(), "count": line.count, "windows": windows}


def _cell(found: Sequence[Line], role: str, whole: bool = False) -> str:
    """Our seconds, of one call or of all, and their ratio to the rival's."""
    times = lambda side: sum((line.count if whole else 1) * line.found[role][side].seconds for line in found)  # noqa: E731
    if any(RIVAL not in line.found[role] for line in found):
        return f"{seconds(times(OURS))}, {NONE}"
    return f"{seconds(times(OURS))}, {times(OURS) / times(RIVAL):.2f}"
