"""The checkpoints of a run: a table of their states and scores, and the deletion of old ones."""

import json
import shutil
import time
from pathlib import Path

from diffusion.runtime.report_text import duration, quantity
from diffusion.workdir import manifest, results
from diffusion.workdir.run import lock, read_run

SCORE = "bits_per_dim"
INTACT = "intact"
NOT_INTACT = 1
"""The status of --verify where a step is damaged or unfinished."""


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
        for step in manifest.steps(folder / name):
            path = folder / name / str(step)
            condition = state(path, verify)
            status = NOT_INTACT if verify and condition != INTACT else status
            values = "".join(f"; {score} {value:.4g}" for score, value in scores.get(step, {}).items())
            mark = " (the best)" if step == best and SCORE in scores[step] else ""
            age, size = duration(time.time() - path.stat().st_mtime), quantity(manifest.size(path), "B")
            print(f"{step:9}  {name:11}  {size:>8}  {age:>12}  {condition}{values}{mark}")
        for pattern, condition in (("damaged/*", "moved aside, damaged"), ("*-tmp*", "unfinished")):
            for path in sorted((folder / name).glob(pattern)):
                print(f"{'':9}  {name:11}  {quantity(manifest.size(path), 'B'):>8}  {'':>12}  {condition}: {path}")
    return status


def prune(folder: Path, keep: int) -> None:
    """Deletes intact steps of checkpoints/ except the newest `keep`. Verifies all of them first."""
    paths = [folder / manifest.ROLLING / str(step) for step in manifest.steps(folder / manifest.ROLLING)]
    states = {path: state(path, verify=True) for path in paths}
    intact = [path for path in paths if states[path] == INTACT]
    for path in intact[:-keep]:
        shutil.rmtree(path)
        print(f"removed     {path}")
    for path in paths:
        if path not in intact:
            print(f"left        {path}: {states[path]}")


def read_scores(folder: Path) -> dict[int, dict[str, float]]:
    """{step: {score: value}} from metrics.jsonl and the results; unreadable lines and files are left out."""
    scores: dict[int, dict[str, float]] = {}
    path = folder / "metrics.jsonl"
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            if (value := values.get(f"eval/{SCORE}")) is not None:
                scores.setdefault(int(values["step"]), {})[SCORE] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
    for path in sorted((folder / "eval").glob("*.json")):
        try:
            result = results.read(path)
            step = int(result.protocol["step"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            continue
        value = next(iter(result.values.values()), None)
        if value is not None and not path.stem.startswith("estimate"):
            scores.setdefault(step, {})[f"{result.name} on {result.protocol.get('images', '?')} images"] = float(value)
    return scores
