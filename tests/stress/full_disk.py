"""Fills the disk under a training run: on file systems of a few megabytes, mounted for this alone (needs root).

    python tests/stress/full_disk.py --kinds=tmpfs,ext4 --size=16

A run whose disk is full for a while says so, keeps its earlier checkpoints, saves again when there is room, and ends
as one that nobody disturbed, bit for bit. One whose disk stays full ends with a line and goes on, when there is room,
from the newest checkpoint that it had. Where mounting is not permitted, that is said and nothing is done.
"""

import argparse
import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from diffusion.runtime import before_jax, config_flag
from diffusion.workdir import verify_checkpoint_manifest as manifest
from tests.stress import kill

ROOT = kill.ROOT
FILLED = "step 12/"
"""The console line at which the disk is filled: after the checkpoint of step 10, before that of step 15."""
LOST = "could not be saved (No space left on device)"
FILLER = "filler"
BEFORE = (0, 5, 10)
"""The checkpoints that there are then."""


class NotPermitted(Exception):
    """This process may not mount a file system."""


@contextmanager
def mounted(kind: str, megabytes: int, place: Path) -> Iterator[Path]:
    """A small file system of its own, for as long as it is needed. Raises NotPermitted."""
    folder, image = place / kind, place / f"{kind}.image"
    folder.mkdir()
    commands = {
        "tmpfs": [["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]],
        "ext4": [
            ["truncate", f"--size={megabytes}M", str(image)],
            ["mkfs.ext4", "-q", "-m", "0", "-F", str(image)],
            ["mount", "-o", "loop", str(image), str(folder)],
        ],
    }
    for command in commands[kind]:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise NotPermitted(f"{command[0]}: {error.strerror}") from error
        if done.returncode:
            raise NotPermitted(" ".join(done.stderr.split()) or f"{command[0]} ended with {done.returncode}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Takes all the room that there is."""
    with (folder / FILLER).open("wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error


def train(disk: Path, full: bool, relieved: bool) -> tuple[str, list[str]]:
    """The run in disk/run, to its end: (the line of its error, what it said).

    full: the disk is filled on the way; relieved: until a save has failed. The checkpoints that there were are looked
    at when it fails.
    """
    from diffusion.commands.train import run

    flag = config_flag.ConfigFlag("configs/digits.py")
    flag.parse("full_disk.py", kill.SMALL[1:])
    config = flag.value
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if full and line.startswith(FILLED):
            while not (disk / "run" / "checkpoints" / str(max(BEFORE))).exists():
                time.sleep(0.01)  # its save is under way
            fill(disk)
        if LOST in line:
            assert_intact(disk / "run")
            if relieved:
                (disk / FILLER).unlink(missing_ok=True)

    try:
        run(config, disk / "run", say)
    except (ValueError, OSError) as error:
        return str(error), said
    return "", said


def assert_intact(folder: Path) -> None:
    """No checkpoint that was there is lost."""
    wrong = {step: manifest.fault(folder / "checkpoints" / str(step)) for step in BEFORE}
    assert not any(wrong.values()), wrong


def for_a_while(disk: Path, straight: Path) -> int:
    """The disk is full when a checkpoint is due, and has room for a later one; how many saves failed."""
    error, said = train(disk, full=True, relieved=True)
    failed = [line for line in said if LOST in line]
    assert not error and failed, (error, said)
    assert any("step 15 " in line and "the newest one is that of step 10" in line for line in failed), failed
    kill.compare(disk / "run", straight)
    return len(failed)


def to_the_end(disk: Path, straight: Path) -> int:
    """The disk stays full: the run ends with a line, and goes on when there is room; how many saves failed."""
    error, said = train(disk, full=True, relieved=False)
    assert "\n" not in error and f"step {kill.STEPS} {LOST}" in error and "make room and start again" in error, error
    assert_intact(disk / "run")
    (disk / FILLER).unlink()
    again, more = train(disk, full=False, relieved=False)
    assert not again and any(line.endswith("resumed from step 10") for line in more), (again, more)
    kill.compare(disk / "run", straight)
    return sum(LOST in line for line in said)


def from_the_start(disk: Path, straight: Path) -> int:  # noqa: ARG001
    """There is no room for a run at all."""
    fill(disk)
    error, said = train(disk, full=False, relieved=False)
    assert "\n" not in error and "cannot be written (No space left on device)" in error, error
    assert not said
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="tmpfs,ext4", help="file systems, of tmpfs and ext4 (in a file, by a loop)")
    known = {case.__name__: case for case in (for_a_while, to_the_end, from_the_start)}
    parser.add_argument("--cases", default=",".join(known))
    parser.add_argument("--size", type=int, default=16, help="megabytes of each")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
    before_jax.configure()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        straight = Path(place) / "straight"
        for kind in args.kinds.split(","):
            for case in (known[name] for name in args.cases.split(",")):
                folder = Path(place) / case.__name__
                folder.mkdir(exist_ok=True)
                try:
                    with mounted(kind, args.size, folder) as disk:
                        if not straight.exists():
                            error, _ = train(straight, full=False, relieved=False)
                            assert not error, error
                        failed = case(disk, straight / "run")
                except NotPermitted as error:
                    print(f"{kind:8} left out: a file system cannot be mounted here ({error})")
                    break
                print(
                    f"{kind:8} full {case.__name__.replace('_', ' ')}: as promised, {failed} saves failed", flush=True
                )
    print(f"full disks in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
