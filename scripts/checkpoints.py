"""Lists, checks and clears the checkpoints of a run.

    python scripts/checkpoints.py --workdir=runs/digits              # every step: size, age, state, scores
    python scripts/checkpoints.py --workdir=runs/digits --verify     # reads all of them and compares the hashes
    python scripts/checkpoints.py --workdir=runs/digits --prune=1    # keeps the newest intact one of checkpoints/

--verify ends with status 1 if any step is not intact. --prune deletes intact older steps of checkpoints/ only: neither
permanent checkpoints nor damaged ones, and never the last intact one.
"""

import json
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import cli

WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run (required)")
VERIFY = flags.DEFINE_bool("verify", False, "read every file and compare it with its hash")
PRUNE = flags.DEFINE_integer("prune", None, "delete all but this many of the newest intact steps", lower_bound=1)

FOLDERS = ("checkpoints", "kept")
SCORE = "bits_per_dim"
INTACT = "intact"
NOT_INTACT = 1
"""The status of --verify where a step is damaged or unfinished."""


def main() -> int:
    if not WORKDIR.value:
        raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
    folder = Path(WORKDIR.value)

    from diffusion.workdir import run

    run.read_run(folder)
    if PRUNE.value is not None:
        with run.lock(folder):
            prune(folder, PRUNE.value)
    return print_table(folder)


def steps(folder: Path) -> list[Path]:
    """The folders of all steps, intact or not, by step."""
    paths = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()] if folder.is_dir() else []
    return sorted(paths, key=lambda path: int(path.name))


def state(path: Path, verify: bool) -> str:
    """The state of a step: "intact", why it is not, or "not checked"."""
    from diffusion.workdir import manifest

    if verify:
        return manifest.fault(path) or INTACT
    try:
        manifest.read(path)
    except manifest.Damaged as error:
        return str(error)
    return "not checked"


def print_table(folder: Path) -> int:
    """Prints a line for each step and each unfinished or damaged folder; returns the status of the script."""
    from diffusion.workdir import manifest

    scores = read_scores(folder)
    best = min(scores, key=lambda step: scores[step].get(SCORE, float("inf")), default=None)
    status = 0
    print(f"{'step':>9}  {'folder':11}  {'size':>8}  {'age':>7}  state; scores")
    for name in FOLDERS:
        for path in steps(folder / name):
            step = int(path.name)
            condition = state(path, VERIFY.value)
            status = NOT_INTACT if VERIFY.value and condition != INTACT else status
            values = "".join(f"; {score} {value:.4g}" for score, value in scores.get(step, {}).items())
            mark = " (the best)" if step == best and SCORE in scores[step] else ""
            age, size = duration(time.time() - path.stat().st_mtime), amount(manifest.size(path))
            print(f"{step:9}  {name:11}  {size:>8}  {age:>7}  {condition}{values}{mark}")
        for pattern, condition in (("damaged/*", "moved aside, damaged"), ("*-tmp*", "unfinished")):
            for path in sorted((folder / name).glob(pattern)):
                print(f"{'':9}  {name:11}  {amount(manifest.size(path)):>8}  {'':>7}  {condition}: {path}")
    return status


def prune(folder: Path, keep: int) -> None:
    """Deletes intact steps of checkpoints/ except the newest `keep`. Verifies all of them first."""
    paths = steps(folder / FOLDERS[0])
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
    from diffusion.workdir import results

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


def amount(size: float) -> str:
    """A number of bytes in its largest unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def duration(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    cli.run(main)
