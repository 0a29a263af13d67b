"""The collectives of an optimised program: how often, how many bytes, and whether in a loop."""

import math
import re
from typing import NamedTuple

from diffusion.planning.hlo import Computation, Instruction, Program, walk

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
SENT = {"all-reduce": 2.0, "collective-permute": None}
"""Bytes that a device sends in a ring of n: this factor, else 1, times (n - 1) / n of the whole; None: all, once."""
UNCHANGED = frozenset({"all-reduce", "reduce-scatter"})
"""Kinds whose start returns the result alone."""


class Collective(NamedTuple):
    """Collectives of one kind and type."""

    count: float
    """In one call."""
    bytes: float
    """Of their whole arrays."""
    sent: float
    """Sent by one device."""
    looped: bool
    """Whether any of them is in a loop."""


def of(program: Program, start: str) -> dict[str, Collective]:
    """ "kind type" -> the collectives of a computation, its loops and calls included.

    One that runs beside kernels stands, on TPUs, in all that it runs beside, with one number of a channel.
    """
    found: dict[str, Collective] = {}
    channels: set[str] = set()
    for step in walk(program, start):
        called = program.computations.get(step.op.called[0], {}) if step.op.called else {}
        for scope, op in [(step.scope, step.op), *((called, inner) for inner in called.values())]:
            inside, channel = scope is called, op.attribute("channel_id")
            kind = op.opcode.removesuffix("-start")
            if kind in KINDS and op.shapes and not (inside and channel in channels):
                channels |= {channel} if inside else set()
                key = f"{kind} {op.shapes[0].dtype}"
                found[key] = _plus(found.get(key), scope, op, kind, step.times, step.looped)
    return found


def _plus(
    old: Collective | None, scope: Computation, op: Instruction, kind: str, times: float, looped: bool
) -> Collective:
    operands = [shape for name in op.operands if name in scope for shape in scope[name].shapes]
    given, result = (sum(s._replace(layout="").bytes for s in shapes) for shapes in (operands, op.shapes))
    if op.opcode.endswith("-start") and kind not in UNCHANGED:
        result -= given  # a start returns its operands too
    whole, n, factor = max(given, result), group(op), SENT.get(kind, 1.0)
    sent = whole if factor is None else factor * whole * (n - 1) / n
    old = old or Collective(0.0, 0.0, 0.0, False)
    return Collective(old.count + times, old.bytes + times * whole, old.sent + times * sent, old.looped or looped)


def group(op: Instruction) -> int:
    """Devices that take part in a collective: replica_groups={{0,1,2,3}}, [1,16]<=[16] or mesh['a'=2,'b'=4] {'b'}; 2
    where it says nothing."""
    if match := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", op.rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", op.rest):
        return int(match[1])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", op.rest):
        return len(match[1].split(","))
    return 2
