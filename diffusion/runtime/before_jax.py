"""Settings of the process that must be in place before jax is imported. Imports nothing heavy."""

import ctypes
import gc
import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from diffusion.runtime import provenance
from diffusion.runtime.paths import cache_folder, expanded

SMALL_CONVOLUTIONS = "--xla_cpu_experimental_ynn_fusion_type="
"""XLA flag meant to speed up small convolutions on CPUs. XLA aborts on a flag that it does not know: 0.10 has it."""

DETERMINISTIC = (
    "--xla_gpu_deterministic_ops=true",
    "--xla_gpu_exclude_nondeterministic_ops=true",
    "--xla_gpu_autotune_level=0",
)
"""XLA flags for deterministic kernels on GPUs, which are not chosen by timing; jaxlib 0.10 to 0.12 have them. Their
effect was not measured."""

RARELY = (100_000, 20, 20)
"""Thresholds of Python's garbage collector: tracing makes millions of objects, nearly all of them to stay."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Parameters of mallopt, from <malloc.h>."""
ONE_HEAP = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 2**26}
"""A single heap that holds blocks of any size, grows by 64 MB or more, and never shrinks."""
ALLOCATORS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Starts of environment variables by which a user chooses an allocator or its settings."""


def configure(compilation_cache: str = "auto", deterministic: bool = False) -> Path | None:
    """Sets XLA's flags, allocator, garbage collector and the folder of compiled programs; returns that, None for none.

    "auto" is a folder in the user's cache; "off" keeps nothing; anything else is a path.
    JAX_COMPILATION_CACHE_DIR and flags already in XLA_FLAGS take precedence. Compiled programs are executable code, so
    a command that reads a run leaves the argument out. `deterministic` has an effect on GPUs alone.
    """
    provenance.revision()  # read before the checkout can change
    keep_freed_memory()
    gc.set_threshold(*RARELY)
    flags = os.environ.get("XLA_FLAGS", "").split()
    chosen_by_user = {flag.partition("=")[0] for flag in flags}
    flags += [flag for flag in _flags(deterministic) if flag.partition("=")[0] not in chosen_by_user]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    # TensorFlow Datasets and others may load TensorFlow, which would claim the whole GPU; jax must be first and alone.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR") or compilation_cache
    if chosen == "off":
        return None
    folder = cache_folder("xla") if chosen == "auto" else expanded(chosen)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    return folder


def keep_freed_memory() -> None:
    """Makes the GNU C library keep freed memory in the process; call it before jax starts threads.

    A compiled step allocates its activations in one block and frees it at its end. The library maps every block of
    more than 32 MB anew and returns it at once, so the system clears the same pages in every step: one of
    configs/digits.py took 250 ms of processor time instead of 200, of which 50 instead of 3 were the system's (measured
    with huge pages in addition, which are not asked for here). Does nothing where an accelerator computes the steps,
    and where the user has chosen an allocator.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "")
    accelerated = platforms != "cpu" if platforms else find_spec("jax_plugins") or find_spec("libtpu")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt and not accelerated and not any(name.startswith(ALLOCATORS) for name in os.environ):
        for parameter, value in ONE_HEAP.items():
            mallopt(parameter, value)


def _flags(deterministic: bool) -> list[str]:
    """The flags for the installed jaxlib. Beside libtpu alone, which parses the same variable, not those of GPUs."""
    flags = [SMALL_CONVOLUTIONS] if version("jaxlib").startswith("0.10.") else []
    gpu = find_spec("jax_plugins") or not find_spec("libtpu")  # plan.py uses libtpu on machines without a TPU too
    return [*flags, *DETERMINISTIC] if deterministic and gpu else flags
