"""The memory of a compiled training step on one device, and one line in place of an allocator's traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from diffusion.runtime.format_numbers import quantity, size
from diffusion.training.state import TrainState

SIGNS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
"""Parts of a backend's message that mean that memory is exhausted."""


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


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """Turns an out-of-memory error of compiling or computing into a ValueError of one line that ends with `advice`.

    A dispatch returns before it is computed: the block must include the place where results are waited for.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)):
            raise
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        raise ValueError(f"{reason}; {advice}") from error
