"""Arrays in a file that is named by everything they depend on: partial results, reference statistics, classifiers."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import diffusion
from diffusion.runtime import atomic_files, npz_reader


def digest(key: Mapping[str, Any]) -> str:
    """SHA-256, 64 hex digits, of this project's version and of a key's JSON with sorted names."""
    text = json.dumps([diffusion.__version__, key], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def place(folder: Path, name: str, key: Mapping[str, Any]) -> Path:
    """The .npz file of the arrays that belong to a key.

    The key holds everything that the numbers depend on, and nothing that they do not depend on (batch size, devices).
    """
    return folder / f"{name}_{digest(key)[:12]}.npz"


def read(path: Path) -> dict[str, np.ndarray]:
    """The stored arrays; empty if there is no file. A damaged file is reported by a warning and counts as none."""
    try:
        return npz_reader.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, OSError) as error:
        warnings.warn(f"{path} cannot be read and is computed again ({error})", UserWarning, stacklevel=2)
        return {}


def cached(path: Path, compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The stored arrays, or else those of compute(), which are stored.

    If the folder cannot be written, a warning reports it and the arrays are returned all the same.
    """
    if arrays := read(path):
        return arrays
    arrays = {name: np.asarray(array) for name, array in compute().items()}
    try:
        atomic_files.write_npz(path, arrays)
    except OSError as error:
        warnings.warn(f"{path.name} could not be stored in {path.parent} ({error})", stacklevel=2)
    return arrays
