"""Result files: the metrics of a run, each with the protocol that it must be quoted with.

A file is JSON of one Result, {"name": ..., "values": {...}, "series": {...}, "protocol": {...}}, in the folder eval/ of
the run. JSON has no NaN and no infinities: a number that is not finite is written as null and read as NaN.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.runtime.atomic_files import read_json, write_json
from diffusion.runtime.paths import writable

FOLDER = "eval"


class Result(NamedTuple):
    """One metric of one run under one protocol."""

    name: str
    """The metric, such as "nll" or "fid"."""
    values: dict[str, float]
    series: dict[str, list[float]]
    """Values along an axis, such as one per step of the chain."""
    protocol: dict[str, Any]
    """Everything that the numbers depend on; `split` and `step` are part of the file's name."""


def write(folder: Path, result: Result, *suffixes: str) -> Path:
    """Writes a result into the folder of its run and returns its path, such as eval/nll_test_1000.json.

    Suffixes distinguish results of other protocols: eval/nll_test_1000_ddim50.json. The same metric, split, step and
    suffixes replace the file.
    """
    context = [result.protocol.get("split"), result.protocol.get("step")]
    parts = [result.name, *(str(part) for part in context if part is not None), *filter(None, suffixes)]
    path = folder / FOLDER / f"{'_'.join(parts)}.json"
    content = {
        "name": result.name,
        "values": {key: _plain(float(value)) for key, value in result.values.items()},
        "series": {key: [_plain(float(value)) for value in values] for key, values in result.series.items()},
        "protocol": _plain(result.protocol),
    }
    write_json(path, content)
    return path


def read(path: Path) -> Result:
    """The result in a file. Raises ValueError if it is not a result or damaged, OSError if it cannot be read."""
    try:
        content = read_json(path)
        name, protocol = content["name"], content["protocol"]
        values = {key: _read(value) for key, value in content["values"].items()}
        series = {key: [_read(value) for value in numbers] for key, numbers in content["series"].items()}
        if not isinstance(name, str) or not isinstance(protocol, dict):
            raise TypeError("its name or its protocol is of another type")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path} is no result file or is damaged ({reason}); evaluate again, or remove it") from None
    return Result(name, values, series, protocol)


def require(folder: Path) -> None:
    """Raises ValueError where this user cannot write results of the run in a folder."""
    if not writable(folder):
        raise ValueError(f"{folder} cannot be written by this user, and results are written there: copy the run")


def find(root: Path) -> list[tuple[Path, Result]]:
    """All results of the runs below a folder, or of one run's folder, by path; other files cause a warning."""
    listed: list[tuple[Path, Result]] = []
    for path in sorted(root.rglob(f"{FOLDER}/*.json")):
        try:
            listed.append((path, read(path)))
        except (ValueError, OSError) as error:
            warnings.warn(f"left out: {error}", UserWarning, stacklevel=2)
    return listed


def plus_minus(error: float, form: str) -> str:
    """A formatted standard error to follow a mean; empty where it is not finite, as for a single image."""
    return f" +- {error:{form}}" if math.isfinite(error) else ""


def _read(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _plain(value: Any) -> Any:
    """Values as plain JSON: numbers that are not finite become null, tuples become lists."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
