"""The checkpoints of a run: a table of their sizes, ages, states and scores, and the deletion of old ones."""

import shutil
import time
from collections import defaultdict
from pathlib import Path

from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.format_numbers import duration, quantity
from diffusion.workdir import metrics_jsonl_files, result_files
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.run_config import lock, read_run

SCORE = "eval/bits_per_dim"
"""The estimate by which train.keep_best chooses."""
NOT_INTACT = 1
"""The status where a verified step is damaged or unfinished."""


def run(folder: Path, verify: bool, keep: int | None = None) -> int:
    """Deletes all but `keep` of the intact steps, if asked to, and prints the table; returns the status of the script.

    Raises ValueError where the folder holds no run, and where steps are to be deleted of a run in use.
    """
    read_run(folder)
    if keep is not None:
        with lock(folder):
            for name in (manifest.ROLLING, manifest.CLASSIFIER):
                prune(folder / name, keep)
    return print_table(folder, verify)


def print_table(folder: Path, verify: bool) -> int:
    """Prints a line for each step, and for each folder of damaged or unfinished steps; returns the status."""
    status, scores = 0, read_scores(folder)
    print(f"{'step':>9}  {'folder':11}  {'size':>8}  {'age':>12}  state; scores")
    for name in manifest.FOLDERS:
        for step, (size, changed) in sizes(folder / name).items():
            state = (manifest.fault(folder / name / step) or "intact") if verify else "not checked"
            if not step.isdigit():
                state = "damaged or unfinished"
            if verify and state != "intact":
                status = NOT_INTACT
            age = duration(time.time() - changed)
            texts = "; ".join([state, *scores.get(step, [])])
            print(f"{step:>9}  {name:11}  {quantity(size, 'B'):>8}  {age:>12}  {texts}")
    return status


def read_scores(folder: Path) -> dict[str, list[str]]:
    """Step -> its estimate during training, with a mark at the best of all, and the first number of each result."""
    estimates = {line["step"]: line[SCORE] for line in metrics_jsonl_files.scalars(folder) if line.get(SCORE)}
    best = min(estimates, key=estimates.__getitem__, default=None)
    scores = defaultdict(list)
    for step, value in estimates.items():
        scores[str(step)].append(f"bits_per_dim {value:.4g}" + " (the best)" * (step == best))
    for _, result in result_files.find(folder):
        value = next(iter(result.values.values()), float("nan"))
        images = result.protocol.get("images", "?")
        scores[str(result.protocol.get("step"))].append(f"{result.name} {value:.4g} on {images} images")
    return scores


def prune(folder: Path, keep: int) -> None:
    """Deletes the intact steps of a folder but the newest `keep`."""
    paths = [folder / str(step) for step in manifest.steps(folder)]
    for path in [path for path in paths if not manifest.fault(path)][:-keep]:
        path.remove(manifest.NAME) if isinstance(path, Bucket) else shutil.rmtree(path)
        print(f"removed     {path}")


def sizes(folder: Path) -> dict[str, tuple[int, float]]:
    """Each sub-folder of a folder of checkpoints: bytes of all its files, and the time of the last change."""
    if isinstance(folder, Bucket):
        files = folder.listing()
    else:
        files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    parts: dict[str, tuple[int, float]] = {}
    for name, status in files.items():
        part, inside, _ = name.partition("/")
        if inside:
            size, changed = parts.get(part, (0, 0.0))
            parts[part] = (size + status.st_size, max(changed, float(status.st_mtime)))
    return {part: parts[part] for part in sorted(parts, key=lambda part: (len(part), part))}
