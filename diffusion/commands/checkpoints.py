"""The checkpoints of a run: a table of their states and scores, and the deletion of old ones."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from diffusion.runtime.atomic_files import remove_tree
from diffusion.runtime.bucket import Bucket
from diffusion.runtime.format_numbers import duration, quantity
from diffusion.workdir import checkpoint_manifest as manifest
from diffusion.workdir import metrics_jsonl, result_files
from diffusion.workdir.run_config import lock, read_run

SCORE = "bits_per_dim"
INTACT = "intact"
NOT_INTACT = 1
"""The status of --verify where a step is damaged or unfinished."""
DAMAGED, UNFINISHED = "moved aside, damaged", "unfinished"


class Row(NamedTuple):
    """A step of a folder of checkpoints."""

    step: int
    size: int
    """Bytes of all files."""
    changed: float


def run(folder: Path, verify: bool, keep: int | None) -> int:
    """Deletes all but `keep` of the newest intact steps, if asked to, and prints the table; returns the status.

    Raises ValueError where the folder holds no run or the run is in use.
    """
    read_run(folder)
    if keep is not None:
        with lock(folder):
            prune(folder, keep)
    return print_table(folder, verify)


def state(path: Path, verify: bool) -> str:
    """The state of a step: "intact", why it is not, or "not checked"."""
    if verify:
        return manifest.fault(path) or INTACT
    if isinstance(path, Bucket):
        return "not checked"  # a request for each step
    try:
        manifest.read(path)
    except manifest.Damaged as error:
        return str(error)
    return "not checked"


def print_table(folder: Path, verify: bool) -> int:
    """Prints a line for each step and each unfinished or damaged folder; returns the status of the script."""
    scores = read_scores(folder)
    best = min(scores, key=lambda step: scores[step].get(SCORE, float("inf")), default=None)
    status = 0
    print(f"{'step':>9}  {'folder':11}  {'size':>8}  {'age':>12}  state; scores")
    for name in manifest.FOLDERS:
        steps, others = rows(folder / name)
        for step, size, changed in steps:
            path = folder / name / str(step)
            condition = state(path, verify)
            status = NOT_INTACT if verify and condition != INTACT else status
            values = "".join(f"; {score} {value:.4g}" for score, value in scores.get(step, {}).items())
            mark = " (the best)" if step == best and SCORE in scores[step] else ""
            age = duration(time.time() - changed)
            print(f"{step:9}  {name:11}  {quantity(size, 'B'):>8}  {age:>12}  {condition}{values}{mark}")
        for path, size, condition in others:
            print(f"{'':9}  {name:11}  {quantity(size, 'B'):>8}  {'':>12}  {condition}: {path}")
    return status


def rows(folder: Path) -> tuple[list[Row], Sequence[tuple[Path, int, str]]]:
    """The steps of a folder of checkpoints, and what else lies in it: (path, bytes, condition)."""
    if isinstance(folder, Bucket):
        files = folder.listing()
        numbers = manifest.sealed(files)
    else:
        numbers = manifest.steps(folder)
        files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    parts: dict[str, list[os.stat_result]] = {}
    for name, status in files.items():
        first, _, rest = name.partition("/")
        parts.setdefault(f"{first}/{rest.partition('/')[0]}" if first == manifest.DAMAGED else first, []).append(status)
    size = {name: sum(status.st_size for status in parts[name]) for name in parts}
    steps = [
        Row(step, size.get(str(step), 0), max((status.st_mtime for status in parts.get(str(step), [])), default=0.0))
        for step in numbers
    ]
    others = sorted(parts.keys() - files.keys() - {str(row.step) for row in steps})
    return steps, [(folder / name, size[name], DAMAGED if "/" in name else UNFINISHED) for name in others]


def prune(folder: Path, keep: int) -> None:
    """Deletes intact steps of checkpoints/ except the newest `keep`. Verifies all of them first."""
    paths = [folder / manifest.ROLLING / str(step) for step in manifest.steps(folder / manifest.ROLLING)]
    states = {path: state(path, verify=True) for path in paths}
    intact = [path for path in paths if states[path] == INTACT]
    for path in intact[:-keep]:
        remove_tree(path, first=manifest.NAME)
        print(f"removed     {path}")
    for path in paths:
        if path not in intact:
            print(f"left        {path}: {states[path]}")


def read_scores(folder: Path) -> dict[int, dict[str, float]]:
    """{step: {score: value}} from the metrics and the results; unreadable lines and files are left out."""
    scores: dict[int, dict[str, float]] = {}
    for line in metrics_jsonl.read(folder):
        try:
            values = json.loads(line)
            if (value := values.get(f"eval/{SCORE}")) is not None:
                scores.setdefault(int(values["step"]), {})[SCORE] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
    for path in sorted((folder / "eval").glob("*.json")):
        try:
            result = result_files.read(path)
            step = int(result.protocol["step"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            continue
        value = next(iter(result.values.values()), None)
        if value is not None and not path.stem.startswith("estimate"):
            scores.setdefault(step, {})[f"{result.name} on {result.protocol.get('images', '?')} images"] = float(value)
    return scores
