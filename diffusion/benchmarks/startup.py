"""From the command to the first step, as a user waits for it: scripts in processes of their own."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.benchmarks.worker import ROOT

SIGN = "first step"
"""How the line of the start-up report begins that a run prints when its first step is done."""

PICTURES = 40
WARM = 3
"""Starts with a full cache that are timed."""


class Start(NamedTuple):
    """Seconds from the command to the first step."""

    net: str
    batch: int
    cold: float
    """With no program compiled before."""
    warm: float
    """With all programs in the compilation cache: the median of `each`."""
    each: tuple[float, ...] = ()


def first_step(arguments: list[str], cache: Path, folder: Path) -> float:
    """Seconds until scripts/train.py has made its first step. Raises ValueError where it ends before that."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments, f"--workdir={folder}"]
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    start, said = time.perf_counter(), []
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said.append(line.strip())
            if line.startswith(SIGN):
                return time.perf_counter() - start
        raise ValueError(f"scripts/train.py made no first step: {said[-1] if said else 'it said nothing'}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def starts(name: str, config: str, changes: Mapping[str, Any], batch: int, shape: tuple[int, int, int]) -> Start:
    """A network's starts: one with an empty compilation cache, and WARM with what that left."""
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        given = {**changes, "train.batch_size": batch}
        if shape[-1] > 1:  # the real set would have to be downloaded
            pictures(here / "pictures", shape)
            given["data.name"] = f"folder:{here / 'pictures'}"
        arguments = [f"--config={config}", *(f"--config.{key}={text(value)}" for key, value in given.items())]
        cold = first_step(arguments, here / "cache", here / "cold")
        each = tuple(first_step(arguments, here / "cache", here / f"warm{i}") for i in range(WARM))
    return Start(name, batch, cold, statistics.median(each), each)


def help_page(times: int = 5) -> list[float]:
    """Seconds that `scripts/train.py --help` takes, each time."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--help"]
    return [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(times)]


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def pictures(folder: Path, shape: tuple[int, int, int]) -> None:
    """A folder of images of noise."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    for i in range(PICTURES):
        pixels = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def text(value: Any) -> str:
    """A value as --config.KEY=VALUE takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value).lower()
