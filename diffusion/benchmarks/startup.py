"""Seconds from the command to the first training step, measured on scripts/train.py itself."""

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
"""Start of the line that scripts/train.py prints after its first step."""

IMAGES = 40
WARM = 3
"""Timed starts with a full compilation cache."""


class Start(NamedTuple):
    """Seconds from the command to the first step."""

    net: str
    batch: int
    cold: float
    """With an empty compilation cache."""
    warm: float
    """With a full compilation cache: the median of `each`."""
    each: tuple[float, ...] = ()


def first_step(arguments: list[str], cache: Path, folder: Path) -> float:
    """Seconds until scripts/train.py has made its first step. Raises ValueError where it ends before that."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments, f"--workdir={folder}"]
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    start, lines = time.perf_counter(), []
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            lines.append(line.strip())
            if line.startswith(SIGN):
                return time.perf_counter() - start
        raise ValueError(f"scripts/train.py made no first step: {lines[-1] if lines else 'no output'}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def starts(name: str, config: str, changes: Mapping[str, Any], batch: int, shape: tuple[int, int, int]) -> Start:
    """Starts of a network: one with an empty compilation cache, then WARM with the cache that it filled."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        values = {**changes, "train.batch_size": batch}
        if shape[-1] > 1:  # the real set would have to be downloaded
            noise_folder(folder / "images", shape)
            values["data.name"] = f"folder:{folder / 'images'}"
        arguments = [f"--config={config}", *(f"--config.{key}={text(value)}" for key, value in values.items())]
        cold = first_step(arguments, folder / "cache", folder / "cold")
        each = tuple(first_step(arguments, folder / "cache", folder / f"warm{i}") for i in range(WARM))
    return Start(name, batch, cold, statistics.median(each), each)


def help_page(times: int = 5) -> list[float]:
    """Seconds of each of several runs of `scripts/train.py --help`."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--help"]
    return [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(times)]


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def noise_folder(folder: Path, shape: tuple[int, int, int]) -> None:
    """Writes a folder of noise images."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    for i in range(IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")


def text(value: Any) -> str:
    """A value in the syntax of --config.KEY=VALUE."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value).lower()
