"""Lists, checks and clears the checkpoints of a run.

    python scripts/checkpoints.py --workdir=runs/digits              # every step: size, age, state, scores
    python scripts/checkpoints.py --workdir=runs/digits --verify     # reads all of them and compares the hashes
    python scripts/checkpoints.py --workdir=runs/digits --prune=1    # keeps the newest intact one of checkpoints/

--verify ends with status 1 if anything is not intact. --prune deletes intact older steps of checkpoints/ alone: neither
kept ones nor damaged ones, and never the last intact one.
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

STREAMS = ("checkpoints", "kept")
SCORE = "bits_per_dim"
FOUND = 1


def main() -> int:
    if not WORKDIR.value:
        raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
    folder = Path(WORKDIR.value)

    from diffusion.workdir import run

    sealed = run.read_run(folder).sealed
    if PRUNE.value is not None:
        with run.lock(folder):
            prune(folder, PRUNE.value, sealed)
    return listing(folder, sealed)


def steps(folder: Path) -> list[Path]:
    """The folders of all steps of a stream, whatever they are worth, by step."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def state(path: Path, sealed: bool, verify: bool) -> str:
    """What is known of a step: "intact", or what is wrong with it, or that nobody looked."""
    from diffusion.workdir import manifest

    if not sealed and not manifest.finished(path):
        return "without hashes (an earlier version's)"
    if verify:
        return manifest.fault(path) or "intact"
    try:
        manifest.read(path)
    except manifest.Damaged as error:
        return str(error)
    return "not checked"


def listing(folder: Path, sealed: bool) -> int:
    """Prints a line for each step, and what lies beside them; 1 if a check found something."""
    from diffusion.workdir import manifest

    scores = measured(folder)
    best = min(scores, key=lambda step: scores[step].get(SCORE, float("inf")), default=None)
    status = 0
    print(f"{'step':>9}  {'stream':11}  {'size':>8}  {'age':>7}  state; scores")
    for stream in STREAMS:
        for path in steps(folder / stream):
            step = int(path.name)
            known = state(path, sealed or stream != STREAMS[0], VERIFY.value)
            status = FOUND if VERIFY.value and known != "intact" else status
            values = "".join(f"; {name} {value:.4g}" for name, value in scores.get(step, {}).items())
            mark = " (the best)" if step == best and SCORE in scores[step] else ""
            age = time.time() - path.stat().st_mtime
            print(f"{step:9}  {stream:11}  {amount(manifest.size(path)):>8}  {since(age):>7}  {known}{values}{mark}")
        for name, what in (("damaged/*", "moved aside, damaged"), ("*-tmp*", "not finished")):
            for path in sorted((folder / stream).glob(name)):
                print(f"{'':9}  {stream:11}  {amount(manifest.size(path)):>8}  {'':>7}  {what}: {path}")
    return status


def prune(folder: Path, keep: int, sealed: bool) -> None:
    """Deletes intact steps of checkpoints/ but the newest `keep` of them. Reads them all first."""
    paths = steps(folder / STREAMS[0])
    known = {path: state(path, sealed, verify=True) for path in paths}
    intact = [path for path in paths if known[path] == "intact"]
    for path in intact[:-keep]:
        shutil.rmtree(path)
        print(f"removed     {path}")
    for path in paths:
        if path not in intact:
            print(f"left        {path}: {known[path]}")


def measured(folder: Path) -> dict[int, dict[str, float]]:
    """{step: {score: value}} from metrics.jsonl and the results; what cannot be read there is left out."""
    from diffusion.workdir import results

    found: dict[int, dict[str, float]] = {}
    path = folder / "metrics.jsonl"
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            read = json.loads(line)
            if (value := read.get(f"eval/{SCORE}")) is not None:
                found.setdefault(int(read["step"]), {})[SCORE] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    for path in sorted((folder / "eval").glob("*.json")):
        try:
            result = results.read(path)
            step = int(result.protocol["step"])
        except (ValueError, KeyError, TypeError):
            continue
        value = next(iter(result.values.values()), None)
        if value is not None and not path.stem.startswith("estimate"):
            found.setdefault(step, {})[f"{result.name} on {result.protocol.get('images', '?')} images"] = float(value)
    return found


def amount(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def since(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    cli.run(main)
