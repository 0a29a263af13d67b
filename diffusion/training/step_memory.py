"""The memory of a compiled training step on one device, and one line in place of an allocator's traceback."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from diffusion.runtime.format_numbers import quantity, size
from diffusion.training.state import TrainState

SIGNS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
"""Parts of a backend's message that mean that memory is exhausted."""
REFUSED = re.compile(r"Used [\d.]+\w of [\d.]+\w")
"""What the TPU compiler says of a program that does not fit: it refuses to compile it."""


def describe(program: Any, state: TrainState) -> str:
    """A line of the start-up report: what a compiled training step holds on one device, as the compiler counts it."""
    stored, stats = quantity(size(state), "B"), program.memory_analysis()
    if stats is None:
        return f"memory      {stored} of state"
    return (
        f"memory      about {quantity(stats.argument_size_in_bytes + stats.temp_size_in_bytes, 'B')} on each device "
        f"({stored} of parameters, averages and moments in all, {quantity(stats.temp_size_in_bytes, 'B')} of "
        "activations)"
    )


def needs(programs: Iterable[Any], error: BaseException) -> str:
    """What the largest compiled step holds on each device, or what the compiler said that refused it."""
    analysed = [stats for program in programs if (stats := program.memory_analysis()) is not None]
    if analysed:
        stats = max(analysed, key=lambda stats: stats.temp_size_in_bytes)
        return (
            f"out of memory: the compiled step holds {quantity(stats.argument_size_in_bytes, 'B')} of state and data "
            f"and {quantity(stats.temp_size_in_bytes, 'B')} of activations on each device"
        )
    refused = REFUSED.search(str(error))
    return f"out of memory: the compiler refuses the step ({refused[0]})" if refused else "out of memory"


def exhausted(error: BaseException) -> bool:
    """Whether an error means that a device or the host has no memory left."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def advised(advice: Callable[[BaseException], str]) -> Iterator[None]:
    """Turns an out-of-memory error of compiling or computing into a ValueError with the line that `advice` returns.

    A dispatch returns before it is computed: the block must include the place where results are waited for.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not exhausted(error):
            raise
        raise ValueError(advice(error)) from error
