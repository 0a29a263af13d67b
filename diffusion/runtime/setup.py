"""Settings of the process that must be in place before jax is imported. Imports nothing heavy."""

import gc
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffusion.runtime import allocator, provenance
from diffusion.runtime.files import cache_folder

CPU_FLAGS = {"0.10": "--xla_cpu_experimental_ynn_fusion_type="}
"""XLA flags meant to speed up small convolutions on CPUs, by the jaxlib series that has them.

XLA aborts on a flag that it does not know, so a flag is passed only to series that it was tried with.
"""

RARELY = (100_000, 20, 20)
"""Thresholds of Python's garbage collector: tracing makes millions of objects, nearly all of them to stay."""


def configure(compilation_cache: str = "auto") -> Path | None:
    """Sets XLA's flags, allocator, garbage collector and the folder of compiled programs; returns that, None for none.

    "auto" is a folder in the user's cache, "off" keeps nothing, anything else is a path. JAX_COMPILATION_CACHE_DIR and
    flags already in XLA_FLAGS take precedence. Compiled programs are executable code, so a command that reads a run
    leaves the argument out.
    """
    provenance.revision()  # read before the checkout can change
    allocator.keep()
    gc.set_threshold(*RARELY)
    flags = os.environ.get("XLA_FLAGS", "")
    for flag in _flags():
        if flag.partition("=")[0] not in flags:
            flags = f"{flags} {flag}".strip()
    os.environ["XLA_FLAGS"] = flags
    # TensorFlow Datasets and others may load TensorFlow, which would claim the whole GPU; jax must be first and alone.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR") or compilation_cache
    if chosen == "off":
        return None
    folder = cache_folder("xla") if chosen == "auto" else Path(chosen).expanduser()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    return folder


def _flags() -> list[str]:
    try:
        installed = version("jaxlib")
    except PackageNotFoundError:
        return []
    return [flag for series, flag in CPU_FLAGS.items() if installed.startswith(series + ".")]
