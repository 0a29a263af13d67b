"""An optimised program as XLA writes it: computations of instructions with shapes, and the buffers it allocates."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0}
"""Sizes of element types whose name does not end in their number of bits."""

LEAF = re.compile(r"(\w+)\[([\d,]*)\](\{[^{}]*\})?")
TILE = re.compile(r"\(([\d,]+)\)")
HEAD = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = ")
START = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"?known_trip_count"?[:=]\{"?n"?:"?(\d+)')
ALLOCATION = re.compile(r"^allocation \d+: size (\d+)((?:, [^,|\n]*)*)", re.MULTILINE)


class Shape(NamedTuple):
    """An array of a program."""

    dtype: str
    dims: tuple[int, ...]
    layout: str = ""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def on_chip(self) -> bool:
        """Whether it lies in a memory other than the device's main one."""
        return "S(" in self.layout

    @property
    def bytes(self) -> int:
        """Bytes in memory, padded as the layout's first tile says: T(8,128) rounds up the two minor dimensions."""
        dims = list(self.dims)
        minor = [int(d) for d in self.layout[1:].partition(":")[0].rstrip("}").split(",") if d.isdecimal()]
        if tile := TILE.search(self.layout.partition("T")[2]):
            for extent, axis in zip(reversed(tile[1].split(",")), minor, strict=False):
                dims[axis] = -(-dims[axis] // int(extent)) * int(extent)
        digits = re.search(r"\d+", self.dtype)
        bits = BITS.get(self.dtype, int(digits[0]) if digits else 8)
        return math.prod(dims) * bits // 8


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    """Its result; several for a tuple, nested ones in one row."""
    operands: tuple[str, ...]
    value: str
    """The text in its parentheses: a parameter's number, a constant's value, the names of the operands."""
    rest: str
    """The line after it: attributes and metadata."""
    root: bool

    def attribute(self, name: str) -> str:
        """The text of an attribute such as dim_labels; "" without it."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.rest)
        return found[1] if found else ""

    @property
    def body(self) -> str:
        """The body of a loop."""
        return self.attribute("body").lstrip("%")

    @property
    def called(self) -> list[str]:
        """The computations that it calls."""
        branches = BRANCHES.search(self.rest)
        names = [name.strip().lstrip("%") for name in branches[1].split(",")] if branches else []
        return names + CALLED.findall(self.rest)


Computation = dict[str, Instruction]
"""name -> instruction, in the order of execution."""


class Program(NamedTuple):
    """A module."""

    computations: dict[str, Computation]
    entry: str
    aliased: int
    """Results that take the place of an argument."""


def parse(text: str) -> Program:
    """The program of an HLO text. Raises ValueError where it has no entry computation."""
    computations: dict[str, Computation] = {}
    current: Computation = {}
    entry, aliased = "", text.partition("\n")[0].count("-alias)")
    for line in text.splitlines():
        if (head := HEAD.match(line)) and line.startswith(" "):
            instruction = _instruction(line, head)
            current[instruction.name] = instruction
        elif start := START.match(line):
            current = computations.setdefault(start[2], {})
            entry = start[2] if start[1] else entry
    if not entry:
        raise ValueError("the compiler's text has no entry computation")
    return Program(computations, entry, aliased)


def _instruction(line: str, head: re.Match[str]) -> Instruction:
    begin = head.end()
    end = _closing(line, begin) + 1 if line[begin] == "(" else line.index(" ", begin)
    shapes = tuple(
        Shape(dtype, tuple(map(int, filter(None, dims.split(",")))), layout or "")
        for dtype, dims, layout in LEAF.findall(line[begin:end])
    )
    bracket = line.index("(", end)
    close = _closing(line, bracket)
    value = line[bracket + 1 : close]
    operands = tuple(re.findall(r"%([\w.\-]+)", value))
    return Instruction(head[2], line[end:bracket].strip(), shapes, operands, value, line[close + 1 :], bool(head[1]))


def _closing(line: str, start: int) -> int:
    """The index of the parenthesis that closes the one at `start`."""
    depth = 0
    for match in re.finditer(r"[()]", line[start:]):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return start + match.start()
    raise ValueError(f"not a line of HLO: {line.strip()[:80]}")


class Step(NamedTuple):
    """An instruction as a call of the program executes it."""

    scope: Computation
    op: Instruction
    times: float
    looped: bool
    """Whether it is in a loop."""
    beside: bool
    """Whether it runs asynchronously, beside the kernels."""


INSIDE = frozenset({"call", "async-start", "conditional"})
"""Instructions that stand for the ones of a computation; of a conditional all branches are taken."""
LOOP = "while"


def walk(program: Program, name: str, times: float = 1.0, looped: bool = False, beside: bool = False) -> Iterator[Step]:
    """The instructions of a computation, with those of its loops, as often as they run, and of what it calls."""
    scope = program.computations[name]
    for op in scope.values():
        if op.opcode == LOOP:
            yield from walk(program, op.body, times * trips(program, op), True, beside)
        elif op.opcode in INSIDE and op.called:
            for called in op.called:
                yield from walk(program, called, times, looped, beside or op.opcode.startswith("async"))
        else:
            yield Step(scope, op, times, looped, beside)


def trips(program: Program, op: Instruction) -> int:
    """How often a loop runs: as XLA noted it, else the largest number that its condition holds, else once."""
    if known := TRIPS.search(op.rest):
        return int(known[1])
    condition = program.computations[op.attribute("condition").lstrip("%")].values()
    return max((int(i.value) for i in condition if i.opcode == "constant" and i.value.isdecimal()), default=1)


def loops(program: Program) -> list[str]:
    """The bodies of all loops."""
    return [op.body for scope in program.computations.values() for op in scope.values() if op.opcode == LOOP]


class Memory(NamedTuple):
    """Bytes that a program holds on one device."""

    arguments: int
    """The training state, or the parameters; and the resident data set. Results take their place."""
    temporaries: int
    """Activations, gradients and whatever else lives within a call."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.arguments + self.temporaries


def memory(assignment: str) -> Memory:
    """The allocations of a buffer assignment in the device's main memory; those of other memories have a colour."""
    arguments = temporaries = 0
    for size, kinds in ALLOCATION.findall(assignment):
        if "color" in kinds or "thread-local" in kinds:
            continue
        if "parameter" in kinds:
            arguments += int(size)
        else:
            temporaries += int(size)
    return Memory(arguments, temporaries)
