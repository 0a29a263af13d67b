"""Memory that stays with the process, for steps that are computed on CPUs. Imports nothing heavy.

A compiled step asks for its activations in one block and frees it at its end. The GNU C library maps a block of more
than 32 MB anew every time and gives it back at once, so that in every step the system clears the same pages again, 4 kB
by 4 kB. Here the library is told to keep what is freed, in one heap, and the system to back that heap with huge pages.
What that gains is in docs/benchmarks.md.
"""

import ctypes
import os
import re
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
"""Names that <malloc.h> has for what mallopt sets."""
NEVER = -1
"""The trim threshold of a heap that gives nothing back."""
MADV_HUGEPAGE = 14

OWN = re.compile(r"MALLOC_\w+|GLIBC_TUNABLES|LD_PRELOAD")
"""Variables by which a user has chosen an allocator, or its settings."""
ACCELERATORS = ("jax_plugins", "libtpu")
"""Packages through which jax finds devices other than CPUs."""
CPU = "cpu"

OVERCOMMIT, STRICT = Path("/proc/sys/vm/overcommit_memory"), "2"
"""Where the system says how it counts addresses, and what it says where they count as memory."""

PAD = 2**26
"""Bytes by which the heap grows once what was reserved is used up."""


def keep() -> bool:
    """Keeps memory that is freed; returns whether. Must come before jax's threads are started.

    Does nothing where another device than a CPU may compute the steps, on another C library than glibc, and where the
    environment has settings of an allocator already.
    """
    if any(OWN.fullmatch(name) for name in os.environ) or not computes_here():
        return False
    library = glibc()
    if library is None:
        return False
    kept = [library.mallopt(name, value) for name, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0))]
    kept.append(library.mallopt(M_TRIM_THRESHOLD, NEVER))
    _reserve(library)
    return all(kept)


def computes_here() -> bool:
    """Whether jax will compute on CPUs: it is told to, or has nothing else to find devices by."""
    told = os.environ.get("JAX_PLATFORMS", "")
    return told == CPU if told else not any(find_spec(name) for name in ACCELERATORS)


def glibc() -> ctypes.CDLL | None:
    """The C library of this process if it is GNU's."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None


def counted() -> bool:
    """Whether the system counts addresses that are not used as memory, which others then would not get."""
    try:
        return OVERCOMMIT.read_text().strip() == STRICT
    except OSError:
        return False


def _reserve(library: ctypes.CDLL) -> None:
    """Grows the heap by half of the machine's memory, in addresses alone, and asks for huge pages there.

    Where addresses are limited or count as memory, or so many are not to be had, the heap grows as it needs to, in
    ordinary pages.
    """
    import resource  # not there on every system

    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    if any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds) or counted():
        return
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    library.free.argtypes = (ctypes.c_void_p,)
    library.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    library.free(library.malloc(half))
    library.mallopt(M_TOP_PAD, PAD)
    with suppress(OSError):
        maps = Path("/proc/self/maps").read_text()
        for heap in re.finditer(r"^([0-9a-f]+)-([0-9a-f]+) .*\[heap\]$", maps, re.MULTILINE):
            start, end = (int(address, 16) for address in heap.groups())
            library.madvise(start, end - start, MADV_HUGEPAGE)
