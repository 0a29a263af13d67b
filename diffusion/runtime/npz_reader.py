"""Reading .npz files that may be damaged. Pickled arrays are refused: they could run code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from diffusion.runtime.short_error_text import reason


@contextmanager
def one_line(message: str) -> Iterator[None]:
    """Turns whatever a damaged archive raises, which is of many types, into ValueError("message (reason)")."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{message} ({reason(error)})") from None


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises ValueError, in one line, for a damaged one; OSError where it has no file."""
    with path.open("rb") as file, one_line(f"{path} is damaged"), np.load(file, allow_pickle=False) as archive:
        arrays = dict(archive)
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):  # NumPy gives other files as bytes
            raise ValueError("not all of it are arrays")
        return arrays
