"""Processor, memory, versions and load of this machine, from files and metadata."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.runtime import provenance

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "diffusers")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, versions, the settings that matter, and the load before."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "revision": provenance.revision(),
        "libraries": {name: installed(name) for name in LIBRARIES if installed(name)},
        "environment": {name: os.environ[name] for name in ("XLA_FLAGS", "JAX_PLATFORMS") if name in os.environ},
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Ticks(NamedTuple):
    """Processor time since the system started, over all cores; zeros where it is not available."""

    stolen: int = 0
    """Time that the host of a virtual machine gave to others."""
    all: int = 0


def ticks(file: Path = Path("/proc/stat")) -> Ticks:
    """Processor time until now."""
    try:
        spent = [int(field) for field in file.read_text().split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return Ticks()
    return Ticks(spent[7], sum(spent)) if len(spent) == 8 else Ticks()  # user .. softirq, steal


def stolen(before: Ticks, after: Ticks) -> float:
    """The share of processor time between two readings that the host took; 0 where it is not available."""
    return (after.stolen - before.stolen) / max(after.all - before.all, 1)


def processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name and its matrix and vector extensions, where available."""
    try:
        lines = [line.partition(":") for line in file.read_text().split("\n\n")[0].splitlines()]
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(facts.get("flags", "").split())
    units = [name for name in ("avx2", "avx512f", "amx_tile") if name in flags]
    model = f" (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"
    return facts.get("model name", platform.machine()) + model + (f", {', '.join(units)}" if units else "")


def installed(library: str) -> str:
    """The version of a library; empty where it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
