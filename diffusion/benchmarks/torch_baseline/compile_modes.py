"""PyTorch set up, and a function in the fastest of the ways to run it."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

CALLS = 7
"""By which a mode is judged, after one that compiles."""


class Mode(NamedTuple):
    """A way to run a function."""

    compiled: str | None
    """A mode of torch.compile; None: not compiled."""
    freezing: bool = False
    """Weights are packed into the program: for inference alone."""


MODES = {
    "eager": Mode(None),
    "default": Mode("default"),
    "max-autotune": Mode("max-autotune"),
    "max-autotune-no-cudagraphs": Mode("max-autotune-no-cudagraphs"),
    "frozen": Mode("default", freezing=True),
}
TRAINING = {"cpu": ("eager", "default", "max-autotune")}
INFERENCE = {"cpu": ("eager", "frozen", "default")}
GPU = ("eager", "max-autotune", "max-autotune-no-cudagraphs", "default")
"""What is tried, by device; a shorter trial takes the first few."""


@cache
def torch() -> Any:
    """PyTorch, set up. Raises ValueError where it is not installed."""
    try:
        import diffusers  # noqa: F401  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"--baseline=torch needs {error.name}, which is not installed: pip install -r requirements-benchmark.txt"
        ) from error
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    return torch


def fastest(function: Callable[..., Any], modes: tuple[str, ...], call: Callable[[Any], Any]) -> tuple[Any, str, dict]:
    """The function in the fastest of the modes, its name, and what each gave: seconds a call, or why it failed.

    `call(made)` makes one call and waits for it. Each mode's calls alternate with calls of the function as it is, and
    their ratio is what counts, so that a machine that slows down while one mode is tried does not decide.
    """
    tried: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    made, last = function, ""
    for name in modes:
        last = ""  # what was made before is gone, even if this one cannot be made
        try:
            made, last = make(function, MODES[name], call), name
            pairs = [(seconds(call, function), seconds(call, made)) for _ in range(CALLS)]
            ratios[name] = statistics.median(own / plain for plain, own in pairs) if made is not function else 1.0
            tried[name] = round(statistics.median(own for _, own in pairs), 6)
        except Exception as error:
            tried[name] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if not ratios:
        raise ValueError(f"the PyTorch baseline ran in no mode: {tried}")
    best = min(ratios, key=lambda name: ratios[name])
    return (made if best == last else make(function, MODES[best], call)), best, tried


def make(function: Callable[..., Any], mode: Mode, call: Callable[[Any], Any]) -> Any:
    """The function in a mode, compiled by a first call; what was compiled before is gone."""
    torch()._dynamo.reset()
    torch()._inductor.config.freezing = mode.freezing
    made = torch().compile(function, mode=mode.compiled, dynamic=False) if mode.compiled else function
    call(made)
    return made


def seconds(call: Callable[[Any], Any], made: Any) -> float:
    """Of one call."""
    start = time.perf_counter()
    call(made)
    return time.perf_counter() - start


def chosen(request: Mapping[str, Any], modes: tuple[str, ...]) -> tuple[str, ...]:
    """The modes to try: the one that the request names, or the first few."""
    named = request.get("mode")
    return (named,) if named in modes else modes[: request.get("modes") or None]
