"""Statistics of reference sets, kept in files that are named by what they were computed from."""

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.metrics.frechet import Moments
from diffusion.runtime.files import cache_folder, write_npz

KEY = "__key__"
"""The array of a file that holds its key, so that a file tells what it is."""


def cached(
    key: Mapping[str, Any], folder: Path | None, compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """compute(), or what it gave the last time that it was asked for under an equal key.

    `key` holds everything that the arrays depend on: data, split, protocol, hash of the weights. Its canonical JSON
    (keys sorted) names the file by its SHA-256. `folder` None is one in the user's cache. What cannot be read from a
    damaged file is computed again; a folder that cannot be written costs the time, not the result; both are warned of
    in one line. Written at once: a reader sees a whole file or none. Raises ValueError for a key that JSON
    cannot hold.
    """
    text = canonical(key)
    path = (folder or cache_folder("reference")) / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"
    try:
        return _read(path, text)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # a damaged archive fails in many ways, and all of them have one cure
        reason = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(f"reference statistics in {path} cannot be read and are computed again ({reason})", stacklevel=2)
    arrays = {name: np.asarray(array) for name, array in compute().items()}
    try:
        write_npz(path, {KEY: np.asarray(text), **arrays})
    except OSError as error:
        warnings.warn(f"reference statistics could not be kept in {path.parent} ({error})", stacklevel=2)
    return arrays


def moments(key: Mapping[str, Any], folder: Path | None, compute: Callable[[], Moments]) -> Moments:
    """Mean and covariance of a reference set, `cached`."""

    def arrays() -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in compute()._asdict().items()}

    found = cached(key, folder, arrays)
    return Moments(found["mean"], found["covariance"], int(found["n"]))


def canonical(key: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal keys have equal texts. Raises ValueError for what JSON cannot hold."""
    try:
        return json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the key of reference statistics must be plain JSON: {error}") from error


def _read(path: Path, text: str) -> dict[str, np.ndarray]:
    """The arrays of a file. Members are read whole, so that each is held against its checksum."""
    with zipfile.ZipFile(path) as archive:
        arrays = {name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    if str(arrays.pop(KEY)) != text:
        raise ValueError("it holds another key")
    return arrays
