"""What one call of an optimised program does on one device: kernels, operations, bytes, collectives, copies."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from diffusion.planning import collectives
from diffusion.planning.collectives import Collective
from diffusion.planning.flop_count import operations
from diffusion.planning.hlo import Computation, Instruction, Program, Shape, Step, loops, walk

FREE = frozenset({"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id"})
"""Instructions that do nothing on a device."""
STARTED = "copy-start"
"""A copy beside the kernels."""
SLICES = frozenset({"dynamic-slice", "gather", "slice"})
"""Readers of no more than what they return."""
UPDATE = "dynamic-update-slice"
"""A writer of no more than its second operand."""
LARGEST = 3
"""Copies and transposes that are reported."""
RELAYOUT = frozenset({"copy", "transpose"})
PLAIN = frozenset({"parameter", "bitcast", "reshape", "convert"})
ELEMENTWISE = PLAIN | {"add", "subtract", "multiply", "divide", "select", "negate", "exponential", "logistic", "tanh"}


class Kernel(NamedTuple):
    """A kernel, or a copy beside the kernels, and how often a call runs it."""

    name: str
    """The operation of the source program that it is named after, else its own name."""
    times: float
    bytes: int
    """Read and written in the device's memory."""
    flop: Counter[str]
    """Operations of its convolutions and matrix products, by type of their inputs."""
    launched: bool
    """False for copies that run beside the kernels."""
    relayout: bool
    """Whether it only copies or transposes."""
    shape: str


class Cost(NamedTuple):
    """One call of a program, or one step of its longest loop."""

    kernels: float
    flop: dict[str, float]
    """By type of the inputs."""
    bytes: float
    collectives: dict[str, Collective]
    """By kind and type, such as "all-reduce f32"."""
    copies: list[Kernel]
    """The largest kernels that only copy or transpose."""


def of(program: Program, per_step: bool = False) -> Cost:
    """The cost of a call; with `per_step` that of one step of the loop that computes most, such as a sampler's."""
    start = program.entry
    if per_step:
        start = max(loops(program), key=lambda body: _work(program, body), default=start)
    every = list(kernels(program, start))
    flop: dict[str, float] = {}
    for kernel in every:
        for dtype, count in kernel.flop.items():
            flop[dtype] = flop.get(dtype, 0.0) + count * kernel.times
    return Cost(
        sum(k.times for k in every if k.launched),
        flop,
        sum(k.times * k.bytes for k in every),
        collectives.of(program, start),
        sorted((k for k in every if k.relayout), key=lambda k: -k.times * k.bytes)[:LARGEST],
    )


def kernels(program: Program, start: str) -> Iterator[Kernel]:
    """The kernels of a computation, those of its loops and calls included."""
    for step in walk(program, start):
        if step.op.opcode not in FREE and not step.op.opcode.endswith("-done"):
            yield _kernel(program, step)


def _work(program: Program, body: str) -> tuple[float, float]:
    every = list(kernels(program, body))
    return sum(k.times * sum(k.flop.values()) for k in every), sum(k.times * k.bytes for k in every)


def _kernel(program: Program, step: Step) -> Kernel:
    op = step.op
    inner = program.computations.get(op.called[0], {}) if op.opcode == "fusion" and op.called else {}
    flop: Counter[str] = Counter()
    _count(program, step.scope, op, flop)
    named = re.search(r'op_name="([^"]*)"', op.rest)
    opcodes = {i.opcode for i in inner.values()} or {op.opcode}
    return Kernel(
        named[1] if named else op.name,
        step.times,
        _read(step.scope, inner, op) + _written(inner, op),
        flop,
        not step.beside and op.opcode != STARTED,
        bool(opcodes & RELAYOUT) and opcodes <= RELAYOUT | PLAIN,
        next((f"{s.dtype}{list(s.dims)}" for s in op.shapes), ""),
    )


def _count(program: Program, scope: Computation, op: Instruction, flop: Counter[str]) -> None:
    """Adds the operations of an instruction and of the computations that it fuses."""
    dtype, count = operations(scope, op)
    if count:
        flop[dtype] += round(count)
    for called in op.called if op.opcode == "fusion" else ():
        inner = program.computations[called]
        for each in inner.values():
            _count(program, inner, each, flop)


def _read(computation: Computation, inner: Computation, op: Instruction) -> int:
    total = 0
    order = {int(i.value): i.name for i in inner.values() if i.opcode == "parameter"}
    seen: set[str] = set()
    for i, name in enumerate(op.operands):
        if name not in computation or (origin := _origin(computation, name)) in seen:
            continue
        seen.add(origin)
        held = [s for s in computation[name].shapes if not s.on_chip]
        whole = sum(s.bytes for s in held)
        scope, source = (inner, order.get(i)) if inner else ({op.name: op}, name)
        total += min(whole, _touched(scope, source)) if held else 0
    return round(total)


def _origin(scope: Computation, name: str) -> str:
    """The instruction whose array a name stands for, where a tuple has been made and taken apart in between."""
    op = scope[name]
    made = scope.get(op.operands[0]) if op.opcode == "get-tuple-element" else None
    return _origin(scope, made.operands[int(op.attribute("index"))]) if made and made.opcode == "tuple" else name


def _touched(scope: Computation, source: str | None) -> float:
    """Bytes of an array that its readers in a kernel take; infinite where one of them takes it all."""
    readers = [r for r in scope.values() if source in r.operands]
    return sum(_taken(scope, source, r) for r in readers) if readers else math.inf


def _taken(scope: Computation, source: str | None, reader: Instruction) -> float:
    """Bytes that one reader takes: a slice what it returns, an update in place nothing; an elementwise
    operation what the readers of its result take."""
    first = reader.operands[0] == source and source not in reader.operands[1:]
    if first and (reader.opcode in SLICES or reader.opcode == UPDATE):
        return float(sum(s.bytes for s in reader.shapes)) if reader.opcode in SLICES else 0.0
    held = scope[source].shapes[0] if source in scope else Shape("", ())
    if not reader.root and reader.opcode in ELEMENTWISE and held.size == reader.shapes[0].size:
        return _touched(scope, reader.name) * held.bytes / reader.shapes[0].bytes
    return math.inf


def _written(inner: Computation, op: Instruction) -> int:
    shapes = op.shapes[:1] if op.opcode == STARTED else op.shapes
    root = next((i for i in inner.values() if i.root), op)
    if root.opcode == UPDATE and inner and root.operands[1] in inner:
        shapes = inner[root.operands[1]].shapes
    return sum(s.bytes for s in shapes if not s.on_chip)
