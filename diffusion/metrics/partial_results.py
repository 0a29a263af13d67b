"""What a long evaluation has found so far, kept in a file so that a killed one goes on instead of starting again."""

import hashlib
import json
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.runtime.files import write_npz

SECONDS = 10.0
"""Time between two writes: what a killed evaluation has to do again, at most, beside its current batch."""


def digest(key: Mapping[str, Any]) -> str:
    """64 hex digits that name a protocol: equal for equal keys and values, in whatever order they come."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()


class Kept:
    """One file of arrays that belong to a protocol; nothing is read from the file of another.

    `key` holds all that the numbers depend on, and nothing that they do not (batch size, devices).
    """

    def __init__(self, folder: Path, name: str, key: Mapping[str, Any], seconds: float = SECONDS):
        self._digest, self._seconds = digest(key), seconds
        self.path = folder / f"{name}_{self._digest[:12]}.npz"
        self._written = time.monotonic()

    def load(self) -> dict[str, np.ndarray]:
        """The arrays written last; none if there is no file, or only one that is damaged or of another protocol."""
        if not self.path.exists():
            return {}
        try:
            with np.load(self.path) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{self.path} is damaged and is begun anew ({error})", UserWarning, stacklevel=2)
            return {}
        return arrays if str(arrays.pop("digest", "")) == self._digest else {}

    def offer(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the arrays if the last time was long enough ago."""
        if time.monotonic() - self._written >= self._seconds:
            self.save(arrays)

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the arrays at once: whoever reads finds the old ones or the new ones."""
        write_npz(self.path, {**arrays, "digest": np.array(self._digest)})
        self._written = time.monotonic()

    def remove(self) -> None:
        """Forgets the file: the evaluation is done."""
        self.path.unlink(missing_ok=True)
