"""Settings of the process that must be in place before jax is imported. Imports nothing heavy."""

import gc
import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from diffusion.runtime import malloc_settings, provenance
from diffusion.runtime.paths import cache_folder, expanded, home

CPU_FLAGS = {"0.10": "--xla_cpu_experimental_ynn_fusion_type="}
"""XLA flags meant to speed up small convolutions on CPUs, by the jaxlib series that has them.

XLA aborts on a flag that it does not know, so a flag is passed only to series that it was tried with.
"""

DETERMINISTIC = (
    "--xla_gpu_deterministic_ops=true",
    "--xla_gpu_exclude_nondeterministic_ops=true",
    "--xla_gpu_autotune_level=0",
)
"""XLA flags for deterministic kernels on GPUs, which are not chosen by timing. Their effect was not measured."""
DETERMINISTIC_SERIES = ("0.10", "0.11", "0.12")
"""Series of jaxlib and its CUDA plugin that have these flags."""
CUDA = frozenset({"cuda", "gpu"})
"""Names of NVIDIA's GPUs in JAX_PLATFORMS."""

RARELY = (100_000, 20, 20)
"""Thresholds of Python's garbage collector: tracing makes millions of objects, nearly all of them to stay."""


def configure(compilation_cache: str = "auto", deterministic: bool = False) -> Path | None:
    """Sets XLA's flags, allocator, garbage collector and the folder of compiled programs; returns that, None for none.

    "auto" is a folder in the user's cache, if there is one; "off" keeps nothing; anything else is a path.
    JAX_COMPILATION_CACHE_DIR and flags already in XLA_FLAGS take precedence. Compiled programs are executable code, so
    a command that reads a run leaves the argument out. With `deterministic` NVIDIA GPUs use DETERMINISTIC; other
    devices are not affected. Raises ValueError where the installed jaxlib is of no series that is known to have its
    flags.
    """
    provenance.revision()  # read before the checkout can change
    malloc_settings.keep()
    gc.set_threshold(*RARELY)
    flags = os.environ.get("XLA_FLAGS", "").split()
    chosen_by_user = {flag.partition("=")[0] for flag in flags}
    flags += [flag for flag in _flags(deterministic) if flag.partition("=")[0] not in chosen_by_user]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    # TensorFlow Datasets and others may load TensorFlow, which would claim the whole GPU; jax must be first and alone.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR") or compilation_cache
    if chosen == "auto" and not os.environ.get("XDG_CACHE_HOME") and home() is None:
        chosen = "off"
    if chosen == "off":
        return None
    folder = cache_folder("xla") if chosen == "auto" else expanded(chosen)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    return folder


def uses_gpu() -> bool:
    """Whether jax will try an NVIDIA GPU: JAX_PLATFORMS names it, or is empty and jax's CUDA plugin is installed."""
    if platforms := os.environ.get("JAX_PLATFORMS", ""):
        return not CUDA.isdisjoint(platforms.split(","))
    plugins = find_spec("jax_plugins")
    folders = (plugins.submodule_search_locations if plugins else None) or ()
    return any(any(Path(folder).glob("xla_cuda*")) for folder in folders)


def _flags(deterministic: bool) -> list[str]:
    """The flags for the installed jaxlib."""
    try:
        installed = version("jaxlib")
    except PackageNotFoundError:
        return []
    flags = [flag for series, flag in CPU_FLAGS.items() if installed.startswith(f"{series}.")]
    if not (deterministic and uses_gpu()):
        return flags
    if not installed.startswith(tuple(f"{series}." for series in DETERMINISTIC_SERIES)):
        raise ValueError(
            f"config.deterministic: its XLA flags were checked with jaxlib {', '.join(DETERMINISTIC_SERIES)}, and "
            f"{installed} is installed; set it to false, or install one of those"
        )
    return [*flags, *DETERMINISTIC]
