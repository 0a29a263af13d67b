"""The scripts on a run in a bucket: the same files as on a disk; a second writer; a service that is away; data."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from diffusion.runtime import file_lock
from diffusion.workdir import metrics_jsonl_files
from diffusion.workdir import verify_checkpoint_manifest as manifest
from tests.stress import kill
from tests.support import buckets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FEW = [*kill.SMALL, "--config.train.steps=20", "--config.eval.final=false"]


service = buckets.services(*buckets.SERVICES, scope="function")
folder = buckets.folder


def script(name, *args, status=0):
    """Runs a script; its console."""
    command = [sys.executable, str(kill.ROOT / "scripts" / name), *args]
    done = subprocess.run(command, cwd=kill.ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "SECRET" not in done.stderr
    return done.stderr


def results(folder):
    """{name: values} of the results of a run."""
    found = {path.name: json.loads(path.read_bytes()) for path in (folder / "eval").glob("*.json")}
    return {name: (content["values"], content["series"]) for name, content in found.items()}


def test_samples_and_results_are_those_of_a_run_on_a_disk(folder, tmp_path):
    for place in (folder, tmp_path / "run"):
        script("train.py", *FEW, f"--workdir={place}")
        assert "resumed from step 20" in script("train.py", *FEW, f"--workdir={place}")
        for form in ("grid", "npz", "png"):
            script("sample.py", f"--workdir={place}", "--n=6", f"--format={form}", "--steps=5", "--sampler=ddim")
        script("evaluate.py", f"--workdir={place}", "--metrics=nll", "--n=8")
    assert results(folder) == results(tmp_path / "run") != {}
    files = [path for pattern in ("*.png", "*_n_6.npz") for path in (tmp_path / "run" / "samples").rglob(pattern)]
    samples = {path.relative_to(tmp_path / "run") for path in files}
    assert len(samples) > 8
    for name in samples:
        assert (folder / name.as_posix()).read_bytes() == (tmp_path / "run" / name).read_bytes(), name
    assert kill.lines(folder) == kill.lines(tmp_path / "run")
    assert kill.state(folder) == kill.state(tmp_path / "run")
    assert b"SECRET" not in (folder / "config.json").read_bytes()


def test_what_a_user_gets_wrong_ends_in_a_line(folder, service):
    gone, data = f"{service.url}-not-there/x", "--config.data.name=folder:"
    for name, flags, wrong in (
        ("train.py", [*FEW, f"--workdir={gone}/"], "no such object or bucket"),
        ("train.py", [*FEW, f"{data}{gone}", f"--workdir={folder}/"], "no such folder of images"),
        ("sample.py", [f"--workdir={gone}"], "holds no run"),
        ("evaluate.py", [f"--workdir={folder}//"], "holds no run"),
    ):
        (line,) = script(name, *flags, status=2).strip().splitlines()
        assert line.startswith(f"{name}: ") and wrong in line
    service.gate.state = buckets.FORBIDDEN
    for name, flags in (("train.py", FEW), ("sample.py", []), ("export_weights.py", ["--out=x.npz"])):
        (line,) = script(name, *flags, f"--workdir={folder}", status=2).strip().splitlines()
        assert line.startswith(f"{name}: ") and f"no permission for {folder}" in line


def test_a_second_writer_is_refused(folder):
    with file_lock.exclusive(folder / "lock", str(folder), "wait"):
        line = script("train.py", *FEW, f"--workdir={folder}", status=2).strip().splitlines()[-1]
    assert line.startswith(f"train.py: {folder} is in use by process {os.getpid()} on ")
    assert manifest.newest(folder) == []


@pytest.mark.parametrize("end", ["away", "gone"])
def test_a_service_that_is_away_costs_no_run_and_one_that_is_gone_ends_it_in_a_line(folder, service, end, tmp_path):
    log = tmp_path / "log"
    process = kill.start(folder, log, ["--config.train.steps=4000", "--config.eval.final=false"])
    kill.wait_for(process, lambda: len(manifest.steps(folder / "checkpoints")) > 1)
    if end == "gone":
        service.drop()
        assert process.wait(120) == 2
        assert kill.text(log).strip().splitlines()[-1].startswith("train.py: the state of step ")
        assert "the newest one is that of step " in kill.text(log)
        return
    before = manifest.steps(folder / "checkpoints")[-1]
    for state, seconds in ((buckets.BUSY, 20), (buckets.SILENT, 40), (buckets.OPEN, 0)):  # saves are due all the time
        service.gate.state = state
        time.sleep(seconds)
    kill.wait_for(process, lambda: manifest.steps(folder / "checkpoints")[-1] > before)
    process.terminate()
    assert process.wait(120) == kill.STOPPED, kill.text(log)
    assert "could not be saved" not in kill.text(log) and service.gate.requests
    if not str(folder).startswith("gs:"):  # gcsfs itself asks again for half a minute, in silence
        assert "does not answer" in kill.text(log)


def test_images_are_read_from_a_bucket_and_kept_on_the_disk(folder, tmp_path):
    random = np.random.default_rng(0)
    for i in range(40):
        pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
        for place in (folder, tmp_path / "here"):
            path = place / "images" / "ab"[i % 2] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "one.png")
            path.write_bytes((tmp_path / "one.png").read_bytes())
    for place in (folder, tmp_path / "here"):
        script("train.py", *FEW, f"--config.data.name=folder:{place / 'images'}", f"--workdir={tmp_path / place.name}")
    assert kill.lines(tmp_path / folder.name) == kill.lines(tmp_path / "here") and metrics_jsonl_files.exist(
        tmp_path / "here"
    )
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 40


@pytest.mark.timeout(3600)
def test_a_run_that_was_killed_ten_times_ends_like_one_on_a_disk(folder, tmp_path):
    """SIGKILL, half of the time during a save, and SIGTERM."""
    assert kill.run(tmp_path, kills=6, terms=4, seed=1, extra=["--config.eval.final=false"], runs=folder) >= 1
