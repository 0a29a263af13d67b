"""Arrays in a file that is named by everything they depend on: partial results, reference statistics, classifiers."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.runtime import atomic_files, npz_reader

SECONDS = 10.0
"""Time between two writes of a partial result: what a killed evaluation repeats at most, beside its current batch."""

DIGEST = "digest"
"""The entry of a file that holds the digest of its key."""


def digest(key: Mapping[str, Any]) -> str:
    """SHA-256, 64 hex digits, of a key's JSON with sorted names: equal keys have equal digests.

    Raises ValueError for a key that JSON cannot hold.
    """
    try:
        return hashlib.sha256(json.dumps(key, sort_keys=True, allow_nan=False).encode()).hexdigest()
    except (TypeError, ValueError) as error:
        raise ValueError(f"the key of stored arrays must be plain JSON: {error}") from error


class ArrayCache:
    """One .npz file of the arrays that belong to a key.

    The key holds everything that the numbers depend on, and nothing that they do not depend on (batch size, devices).
    A file is written at once: readers see the old arrays or the new ones.
    """

    def __init__(self, folder: Path, name: str, key: Mapping[str, Any]):
        self._digest, self._written = digest(key), time.monotonic()
        self.path = folder / f"{name}_{self._digest[:12]}.npz"

    def read(self, *names: str) -> dict[str, np.ndarray]:
        """The stored arrays; empty if there is no file, or if it is of another key or lacks one of the names.

        A damaged file is reported by a warning and counts as none.
        """
        try:
            arrays = npz_reader.read(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (ValueError, OSError) as error:
            warnings.warn(f"{self.path} cannot be read and is computed again ({error})", UserWarning, stacklevel=2)
            return {}
        same = str(arrays.pop(DIGEST, "")) == self._digest
        return arrays if same and arrays.keys() >= set(names) else {}

    def write(self, arrays: Mapping[str, np.ndarray], every: float = 0.0) -> None:
        """Stores the arrays, unless the last write is less than `every` seconds ago. Raises OSError."""
        if every and time.monotonic() - self._written < every:
            return
        atomic_files.write_npz(self.path, {**arrays, DIGEST: np.array(self._digest)})
        self._written = time.monotonic()

    def cached(self, compute: Callable[[], Mapping[str, np.ndarray]], *names: str) -> dict[str, np.ndarray]:
        """The stored arrays, which must have these names, or else those of compute(), which are stored.

        If the folder cannot be written, a warning reports it and the arrays are returned all the same.
        """
        if arrays := self.read(*names):
            return arrays
        arrays = {name: np.asarray(array) for name, array in compute().items()}
        try:
            self.write(arrays)
        except OSError as error:
            warnings.warn(f"{self.path.name} could not be stored in {self.path.parent} ({error})", stacklevel=2)
        return arrays

    def remove(self) -> None:
        """Deletes the file, if it exists."""
        self.path.unlink(missing_ok=True)
