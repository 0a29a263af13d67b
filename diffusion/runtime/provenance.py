"""The provenance of a result: versions of the project and of its libraries, git revision, devices."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusion

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

ROOT = Path(__file__).resolve().parents[2]


def stamp(devices: str) -> dict[str, Any]:
    """The provenance that a result is stored with: project version and revision, library versions, devices."""
    return {
        "version": diffusion.__version__,
        "revision": revision(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "devices": devices,
    }


@cache
def revision() -> str:
    """The git revision of the project, with "+" where files were changed since; "unknown" outside a checkout.

    It is read once a process, so that it names the code that runs also where the checkout is updated meanwhile.
    """
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
