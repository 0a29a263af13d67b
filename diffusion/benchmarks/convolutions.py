"""The 3x3 convolutions of a network, one by one and in each of their roles, beside the rival's; and whole passes.

Beside each whole pass stands one of its convolutions and products alone (products.py): the part of it that no
arrangement around them can save.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from diffusion.benchmarks import timing
from diffusion.benchmarks.comparison import FORWARD, OURS, RIVAL, TRAIN, Settings, side_by_side
from diffusion.benchmarks.sizes import MEASURES, Pace, Size
from diffusion.benchmarks.table import NONE, aligned, disturbance, seconds
from diffusion.benchmarks.timing import Timing
from diffusion.benchmarks.worker import Worker

ROLES = {"forward": "forward", "input": "gradient of the input", "kernel": "gradient of the kernel"}
HEAD = ("net", "batch", "map", "channels", "of them", *(f"{name}, ratio" for name in ROLES.values()))
PASSES = {FORWARD: ("forward",), TRAIN: tuple(ROLES)}
"""The roles of a convolution in each pass."""
PRODUCTS = "products"
"""The measure of a pass without anything but its convolutions and products."""
PASS_HEAD = ("net", "pass", "batch", "ours", "3x3 alone", "all products", "rival", "3x3 alone", "ours / rival")
LIMIT_HEAD = "all our products / rival"
CONVOLUTION, PRODUCT = "conv_general_dilated", "dot_general"
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


class Pass(NamedTuple):
    """A whole pass of a network."""

    net: str
    measure: str
    batch: int
    found: Mapping[str, Timing]
    """Side, or PRODUCTS, -> seconds."""
    facts: Mapping[str, Mapping[str, Any]]
    """Of the same."""
    stolen: float = 0.0
    """As of a row of the contest."""

    def over_rival(self, side: str) -> float:
        """The time of a side over the rival's: the median over rounds."""
        return timing.ratio(self.found[side], self.found[RIVAL])


def equations(jaxpr: Any, *names: str) -> Iterator[Any]:
    """The operations of these names in a traced function, as often as each is met, calls within it included.

    The body of a loop counts once.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name in names:
            yield equation
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr, *names)


def shapes(jaxpr: Any) -> Counter[Shape]:
    """The 3x3 convolutions of stride 1 in a traced network, and how often each is met."""
    found: Counter[Shape] = Counter()
    for equation in equations(jaxpr, CONVOLUTION):
        x, kernel = (variable.aval.shape for variable in equation.invars)
        if kernel[:2] == (3, 3) and set(equation.params["window_strides"]) == {1}:
            found[Shape(*x[1:3], *kernel[2:])] += 1
    return found


def measure(name: str, size: Size, settings: Settings, say: Callable[[str], None]) -> tuple[list[Line], list[Pass]]:
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
        workers[PRODUCTS] = stack.enter_context(closing(Worker(OURS, settings.env)))
        rows = []
        for kind in PASSES:
            say(f"{name}: {MEASURES[kind]}, whole")
            whole = {**request, "measure": kind}
            told = {side: whole for side in workers} | {PRODUCTS: {**whole, "measure": PRODUCTS, "pass": kind}}
            sides = {side: worker.make(told[side]) for side, worker in workers.items()}
            found, taken = side_by_side(sides, settings.pace)
            facts = {side: made.facts for side, made in sides.items()}
            rows.append(Pass(name, kind, request["batch"], found, facts, taken))
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


def passes(found: Sequence[Line], rows: Sequence[Pass]) -> str:
    """Whole passes of each network, what their 3x3 convolutions take one by one, and what all their products do alone.

    The last column is the ratio that would be left if everything but convolutions and products took no time.
    """
    cells: list[tuple[str, ...]] = []
    for row in rows:
        mine = [line for line in found if line.net == row.net]
        told = lambda side: seconds(row.found[side].seconds)  # noqa: E731, B023
        alone = lambda side: seconds(_sum(mine, PASSES[row.measure], side))  # noqa: E731, B023
        rest = (NONE,) * 4
        if RIVAL in row.found:
            ratios = (f"{row.over_rival(side):.2f}" for side in (OURS, PRODUCTS))
            rest = (told(RIVAL), alone(RIVAL), *ratios)
        first = (row.net, MEASURES[row.measure], f"{row.batch}")
        cells.append((*first, told(OURS), alone(OURS), told(PRODUCTS), *rest))
    return "\n\n".join(filter(None, [aligned([(*PASS_HEAD, LIMIT_HEAD), *cells]), disturbance(rows)]))


def _sum(found: Sequence[Line], roles: Sequence[str], side: str) -> float:
    """Seconds of all convolutions of a network in these roles."""
    return sum((line.count * line.found[role][side].seconds for line in found for role in roles), 0.0)


def content(line: Line) -> dict[str, Any]:
    """A line as JSON."""
    windows = {role: {side: list(t.windows) for side, t in sides.items()} for role, sides in line.found.items()}
    return {"net": line.net, "batch": line.batch, **line.shape._asdict(), "count": line.count, "windows": windows}


def pass_content(row: Pass) -> dict[str, Any]:
    """A pass as JSON."""
    windows = {side: list(timed.windows) for side, timed in row.found.items()}
    first = {"net": row.net, "measure": row.measure, "batch": row.batch, "stolen": row.stolen}
    return {**first, "windows": windows, "facts": dict(row.facts)}


def _cell(found: Sequence[Line], role: str, whole: bool = False) -> str:
    """Our seconds, of one call or of all, and their ratio to the rival's."""
    times = lambda side: sum((line.count if whole else 1) * line.found[role][side].seconds for line in found)  # noqa: E731
    if any(RIVAL not in line.found[role] for line in found):
        return f"{seconds(times(OURS))}, {NONE}"
    return f"{seconds(times(OURS))}, {times(OURS) / times(RIVAL):.2f}"
