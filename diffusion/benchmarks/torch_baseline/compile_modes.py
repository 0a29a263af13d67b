"""PyTorch set up, and a function in the fastest of the ways to run it."""

import gc
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from diffusion.benchmarks import timing
from diffusion.benchmarks.timing import Workload

MODES: dict[str, dict[str, Any] | None] = {
    "eager": None,
    "default": {"mode": "default"},
    "max-autotune": {"mode": "max-autotune"},
    "max-autotune-no-cudagraphs": {"mode": "max-autotune-no-cudagraphs"},
    "frozen": {"options": {"freezing": True}},
}
"""Arguments of torch.compile; None: not compiled. Frozen weights are packed into the program: for inference alone."""
TRAINING = {"cpu": ("eager", "default", "max-autotune")}
INFERENCE = {"cpu": ("eager", "frozen", "default")}
GPU = ("eager", "max-autotune", "max-autotune-no-cudagraphs", "default")
"""Modes that are tried, by device."""
ROUNDS = 7
"""Calls of each mode in turn, after those that compile, from which the fastest is chosen."""


def require() -> None:
    """Raises ValueError where a library of the baseline is not installed."""
    for name in ("torch", "diffusers"):
        if find_spec(name) is None:
            raise ValueError(
                f"--baseline=torch needs {name}, which is not installed: pip install -r requirements-benchmark.txt"
            )


@cache
def torch() -> Any:
    """PyTorch, set up."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    return torch


def fastest(
    function: Callable[..., Any], modes: Sequence[str], call: Callable[[Any, int], object]
) -> tuple[Any, str, dict[str, Any]]:
    """The function in the fastest of the modes, its name, and seconds a call of each, or why it failed.

    `call(compiled, n)` makes n calls and waits for them. Calls of all modes alternate, so that a machine that slows
    down does not decide. Raises ValueError where no mode works.
    """
    compiled: dict[str, Workload] = {}
    tried: dict[str, Any] = {}
    for name in modes:
        run = partial(call, _compile(function, name))
        try:
            run(1)
            compiled[name] = Workload(run)
        except Exception as error:
            tried[name] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if not compiled:
        raise ValueError(f"the PyTorch baseline ran in no mode: {tried}")
    timings = timing.alternate(compiled, ROUNDS, 0.0)
    first = next(iter(timings.values()))
    best = min(timings, key=lambda name: timing.ratio(timings[name], first))
    tried |= {name: round(one.seconds, 6) for name, one in timings.items()}
    compiled.clear()
    torch()._dynamo.reset()  # frees the programs of the other modes
    if torch().cuda.is_available():  # the peak memory is that of the chosen mode
        gc.collect()
        torch().cuda.empty_cache()
        torch().cuda.reset_peak_memory_stats()
    return _compile(function, best), best, tried


def _compile(function: Callable[..., Any], name: str) -> Any:
    arguments = MODES[name]
    return function if arguments is None else torch().compile(function, dynamic=False, **arguments)
