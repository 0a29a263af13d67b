"""Kills a real training run over and over and compares what comes of it with a run that nobody touched, bit for bit.

    python tests/stress/kill.py --kills=25 --terms=10 --seed=0
    python tests/stress/kill.py --kills=6 --terms=4 --bucket=gs     # runs in a bucket, compared with one on the disk

SIGKILL comes at random moments, half of them while a checkpoint is being written; SIGTERM at random moments from the
start of the process on. Every run is started again until it is done; then its last state, its metrics file and its
sample grids must equal those of the untouched run. Further runs are made until all the signals are spent.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.paths import expanded
from diffusion.workdir import metrics_jsonl_files
from tests.support import buckets

ROOT = Path(__file__).resolve().parents[2]
STEPS = 60
SMALL = [
    "--config=configs/digits.py",
    "--config.diffusion.T=20",
    "--config.diffusion.beta_T=0.7",
    "--config.net.channels=8",
    "--config.net.multipliers=1",
    "--config.net.attention=()",
    "--config.objective.timesteps=loss_second_moment",
    "--config.train.batch_size=16",
    f"--config.train.steps={STEPS}",
    "--config.train.steps_per_dispatch=1",
    "--config.train.log_every=4",
    "--config.train.checkpoint_every=5",
    "--config.train.eval_every=30",
    "--config.train.sample_every=30",
    "--config.sample.n=1",
    "--config.sample.preview_steps=5",
    "--config.eval.n=1",
    "--config.eval.quick_n=4",
    "--config.eval.quick_steps=5",
]
DONE, STOPPED = 0, 75
ENDS = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (STOPPED, 143, -signal.SIGTERM)}
"""Statuses of a process that a signal ended; the last two where it came before the script had begun."""
BEGUN = "first step"
"""The console line after which the run trains."""


def start(folder: Path, log: Path, extra: list[str]) -> subprocess.Popen[bytes]:
    """A training process on one CPU device; its console goes to a file."""
    settings = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    settings.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *SMALL, *extra, f"--workdir={folder}"]
    with log.open("ab") as console:
        return subprocess.Popen(command, cwd=ROOT, env=settings, stdout=console, stderr=console)


def finish(folder: Path, log: Path, extra: list[str]) -> float:
    """Runs to the end; the seconds from its first step to its last, if it takes both."""
    process = start(folder, log, extra)
    wait_for(process, lambda: BEGUN in text(log))
    begun = time.monotonic()
    wait_for(process, lambda: f"step {STEPS}/{STEPS}" in text(log))
    seconds = time.monotonic() - begun
    if (status := process.wait(600)) != DONE:
        raise AssertionError(f"status {status}: {text(log)[-2000:]}")
    return seconds


def strike(folder: Path, log: Path, extra: list[str], number: int, seconds: float, draw: random.Random) -> int | None:
    """Starts the run and sends it a signal at a random moment; the process's status. None: it was done before that."""
    before = len(text(log))
    process = start(folder, log, extra)
    started = time.monotonic()
    if number == signal.SIGTERM and draw.random() < 0.3:
        time.sleep(draw.uniform(0.0, 3.0))  # while it starts and compiles
    else:
        wait_for(process, lambda: BEGUN in text(log)[before:])
        if number == signal.SIGKILL and draw.random() < 0.5:
            skip = draw.randrange(6)
            seen: set[str] = set()

            def saving() -> bool:
                seen.update(unfinished(folder / "checkpoints"))
                return len(seen) > skip

            wait_for(process, saving)
            time.sleep(draw.uniform(0.0, 0.1))
        else:
            time.sleep(draw.uniform(0.0, seconds))
    if process.poll() is None:
        process.send_signal(number)
    status = process.wait(600)
    print(f"{signal.Signals(number).name} after {time.monotonic() - started:.1f} s: status {status}", flush=True)
    return None if status == DONE else status


def unfinished(folder: Path) -> set[str]:
    """The folders of steps that have no manifest."""
    if isinstance(folder, Bucket):
        time.sleep(0.02)
        names = [name.split("/", 1) for name in folder.listing()]
        return {step for step, _ in names} - {step for step, file in names if file == "manifest.json"}
    return {path.name for path in folder.glob("*") if not (path / "manifest.json").exists()}


def wait_for(process: subprocess.Popen[bytes], happened: Any) -> None:
    """Until something has happened, or the process has ended."""
    while process.poll() is None and not happened():
        time.sleep(0.002)


def text(path: Path) -> str:
    """What a file holds so far."""
    return path.read_text(errors="replace") if path.exists() else ""


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics, without speeds."""
    read = [json.loads(line) for line in metrics_jsonl_files.read(folder)]
    return [{name: value for name, value in line.items() if not name.startswith("perf/")} for line in read]


def state(folder: Path) -> dict[str, bytes]:
    """The bytes of every array of the last state."""
    import jax
    import numpy as np

    from diffusion.experiment import build
    from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
    from diffusion.workdir.run_config import read_run

    run = read_run(folder)
    streams = RunCheckpoints(folder)
    found, step = streams.load(build.experiment(run.config, run.shape, run.classes).create_state, None, raise_)
    streams.close()
    assert step == run.config.train.steps, f"the last state of {folder} is that of step {step}"
    plain = found._replace(key=jax.random.key_data(found.key))
    flat = jax.tree_util.tree_leaves_with_path(plain)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in flat}


def raise_(line: str) -> None:
    """A run that ended well has nothing to skip."""
    raise AssertionError(line)


def compare(folder: Path, straight: Path) -> None:
    """Raises AssertionError where two finished runs differ in anything but time."""
    ours, theirs = state(folder), state(straight)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if ours[name] != theirs[name]]
    assert not different, f"{folder}: {different} differ"
    assert lines(folder) == lines(straight), f"{folder}: the metrics differ"
    grids = {path.name: path.read_bytes() for path in (straight / "samples").glob("*.png")}
    assert grids and grids == {path.name: path.read_bytes() for path in (folder / "samples").glob("*.png")}


def run(place: Path, kills: int, terms: int, seed: int, extra: list[str], runs: Path | None = None) -> int:
    """Spends all the signals; the number of runs, in `runs` or `place`, that they were spent on."""
    draw = random.Random(seed)
    signals = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    draw.shuffle(signals)
    seconds = finish(place / "straight", place / "straight.log", extra)
    print(f"straight    {seconds:.1f} s from the first step on", flush=True)
    count = 0
    while signals:
        folder, log = (runs or place) / f"run_{count}", place / f"run_{count}.log"
        for _ in range(draw.randint(3, 8)):
            if not signals:
                break
            status = strike(folder, log, extra, signals[-1], seconds, draw)
            if status is None:  # done before the signal: it is not spent
                break
            assert status in ENDS[signals[-1]], f"status {status}: {text(log)[-2000:]}"
            signals.pop()
        finish(folder, log, extra)
        assert "Traceback" not in text(log), text(log)
        compare(folder, place / "straight")
        count += 1
        print(f"run {count}: the same as the untouched one; {len(signals)} signals left", flush=True)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--streamed", action="store_true", help="read batches with threads instead of from the device")
    parser.add_argument("--keep", type=Path, help="folder for the runs; by default a temporary one")
    parser.add_argument("--bucket", choices=buckets.SERVICES, help="put the runs into a bucket of an emulated service")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    extra = ["--config.data.resident_mb=0"] if args.streamed else []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        place, runs = args.keep or Path(temporary), None
        place.mkdir(parents=True, exist_ok=True)
        if args.bucket:
            service = stack.enter_context(buckets.SERVICES[args.bucket]())
            os.environ.update(service.environment)
            runs = expanded(service.url)
        count = run(place, args.kills, args.terms, args.seed, extra, runs)
    print(
        f"{args.kills} SIGKILL and {args.terms} SIGTERM on {count} runs of {STEPS} steps in "
        f"{time.monotonic() - start:.0f} s: every last state, metrics file and grid is that of the untouched run"
    )


if __name__ == "__main__":
    main()
