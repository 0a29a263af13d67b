"""The checkpoints of a run: a table of their sizes, ages and, where they are verified, states."""

import time
from pathlib import Path

from diffusion.runtime.bucket import Bucket
from diffusion.runtime.format_numbers import duration, quantity
from diffusion.workdir import checkpoint_manifest as manifest
from diffusion.workdir.run_config import read_run

NOT_INTACT = 1
"""The status where a verified step is damaged or unfinished."""


def run(folder: Path, verify: bool) -> int:
    """Prints the table; returns the status of the script. Raises ValueError where the folder holds no run."""
    read_run(folder)
    return print_table(folder, verify)


def print_table(folder: Path, verify: bool) -> int:
    """Prints a line for each step, and for each folder of damaged or unfinished steps; returns the status."""
    status = 0
    print(f"{'step':>9}  {'folder':11}  {'size':>8}  {'age':>12}  state")
    for name in manifest.FOLDERS:
        for step, (size, changed) in sizes(folder / name).items():
            state = (manifest.fault(folder / name / step) or "intact") if verify else "not checked"
            if not step.isdigit():
                state = "damaged or unfinished"
            elif verify and state != "intact":
                status = NOT_INTACT
            age = duration(time.time() - changed)
            print(f"{step:>9}  {name:11}  {quantity(size, 'B'):>8}  {age:>12}  {state}")
    return status


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
