"""The scripts as a user runs them: processes, files and console lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--config=configs/digits.py",
    "--config.diffusion.T=20",
    "--config.diffusion.beta_T=0.7",
    "--config.net.channels=8",
    "--config.net.multipliers=1",
    "--config.net.attention=()",
    "--config.train.batch_size=16",
    "--config.train.log_every=2",
    "--config.train.sample_every=2",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=2",
    "--config.sample.n=16",
    "--config.sample.preview_steps=5",
    "--config.eval.n=16",
    "--config.eval.quick_n=16",
    "--config.eval.quick_steps=5",
]


def script(name, *args, cwd=ROOT, env=None):
    """Runs a script with one CPU device, so that a small batch divides."""
    settings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1", **(env or {})}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 4 steps, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    done = script("train.py", *TINY, "--config.train.steps=4", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_is_complete(run):
    folder, _ = run
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["diffusion"]["T"] == 20 and len(config["hash"]) == 12
    assert {"version", "revision", "libraries", "devices"} <= config.keys() and config["libraries"]["jax"][0].isdigit()
    assert sorted(int(p.name) for p in (folder / "checkpoints").iterdir()) == [0, 2, 4]
    names = {p.name for p in (folder / "samples").iterdir()}
    assert {"step_0000002.png", "step_0000002_raw.png", "step_0000004.png", "step_0000004_ancestral.png"} <= names
    assert list((folder / "tensorboard").iterdir())
    result = json.loads((folder / "eval" / "nll_test_4_n16.json").read_text())
    values = result["values"]
    total = values["L_T"] + values["L_steps"] + values["L_0"]
    assert values["images"] == 16 and total == pytest.approx(values["bits_per_dim"], rel=1e-9)
    assert len(result["series"]["terms"]) == 20 and result["protocol"]["weights"] == "ema"
    assert json.loads((folder / "eval" / "fd_digits_train_4_n16.json").read_text())["protocol"]["images"] == 16
    lines = metrics(folder)
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4]
    assert all(0 < line["train/loss"] < 3 for line in lines if "train/loss" in line)
    assert any("eval/bits_per_dim" in line for line in lines)


def test_the_start_up_report_says_what_is_run(run):
    _, said = run
    words = (
        "1500 train and 297 held-out",
        "parameters",
        "FLOP",
        "memory",
        "4 steps",
        "compilation",
        "bound",
        "samples",
    )
    for word in words:
        assert word in said
    assert "Traceback" not in said and "Warning" not in said


@pytest.mark.slow
def test_a_run_goes_on_and_refuses_another_config(run):
    folder, _ = run
    other = script("train.py", *TINY, "--config.train.steps=6", "--config.optim.lr=0.5", f"--workdir={folder}")
    assert other.returncode == 2
    assert len(other.stderr.strip().splitlines()) == 1
    assert "optim.lr is 0.001 in the run and 0.5 now" in other.stderr
    done = script("train.py", *TINY, "--config.train.steps=6", f"--workdir={folder}")
    assert done.returncode == 0, done.stderr
    assert "resumed from step 4" in done.stderr
    assert [line["step"] for line in metrics(folder) if "train/loss" in line] == [2, 4, 6]
    assert (folder / "samples" / "step_0000006.png").exists()


@pytest.mark.slow
def test_samples_depend_on_seed_and_index_alone(run, tmp_path):
    folder, _ = run
    few, many = tmp_path / "few.npz", tmp_path / "many.npz"
    common = [f"--workdir={folder}", "--format=npz", "--step=2"]
    assert script("sample.py", *common, "--n=3", f"--out={few}").returncode == 0
    assert script("sample.py", *common, "--n=7", "--batch_size=5", f"--out={many}").returncode == 0
    a, b = np.load(few)["arr_0"], np.load(many)["arr_0"]
    assert a.shape == (3, 8, 8, 1) and b.shape == (7, 8, 8, 1) and a.dtype == np.uint8
    # The compiler may order sums otherwise for another batch size: at most a rounding of the last level.
    assert np.abs(a.astype(int) - b[:3].astype(int)).max() <= 1
    assert len({image.tobytes() for image in b}) == 7


@pytest.mark.slow
def test_a_set_that_is_there_is_not_drawn_again(run, tmp_path):
    folder, _ = run
    common = [f"--workdir={folder}", "--steps=3", "--n=9", "--batch_size=4", "--format=npz", "--truncate"]
    first, second = (script("sample.py", *common, f"--out={tmp_path / name}") for name in ("a.npz", "b.npz"))
    assert first.returncode == second.returncode == 0, second.stderr
    assert "9 images in" in first.stderr and "9 of 9 images exist already" in second.stderr
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_run_is_evaluated(run, tmp_path):
    """The bound and the scores of small data, printed with their protocol and written beside the run."""
    folder, _ = run
    args = [f"--workdir={folder}", "--step=4", "--metrics=nll,neighbours", "--n=12", "--steps=4", "--batch_size=8"]
    done = script("evaluate.py", *args, env={"XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    for word in ("bits/dim on 12 test images", "reverse time", "nearest     pixels", "config_hash", "devices"):
        assert word in done.stdout
    paths = [Path(line.strip()) for line in done.stdout.partition("written\n")[2].splitlines()]
    assert [path.name for path in paths] == ["nll_test_4_4_n12.json", "neighbours_train_4_4_n12.json"]
    found = json.loads(paths[0].read_text())
    assert found["values"]["bits_per_dim"] > 0 and len(found["series"]["terms"]) == found["protocol"]["steps"] == 4


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "--workdir is required"),
        (["--workdir=/nowhere"], "holds no run"),
        (["--workdir=README.md"], "holds no run"),
        (["--workdir={run}", "--metrics=fdi"], "no such metric; did you mean fid?"),
        (["--workdir={run}", "--split=valid"], "value should be one of <train|test>"),
        (["--workdir={run}", "--metrics=nll", "--n=298"], "the test split of digits has 297 images"),
        (["--workdir={run}", "--metrics=nll", "--step=3"], "no checkpoint of step 3; it has"),
        (["--workdir={run}", "--metrics=fid", "--inception=/nowhere.pth"], "/nowhere.pth"),
    ],
)
def test_evaluation_mistakes_end_in_one_line(run, args, line):
    done = script("evaluate.py", *(a.format(run=run[0]) for a in args))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and line in done.stderr


@pytest.mark.slow
def test_sample_formats(run, tmp_path):
    folder, _ = run
    faster = ["--sampler=ddim", "--steps=4"]
    done = script("sample.py", f"--workdir={folder}", "--n=5", *faster, "--format=png", f"--out={tmp_path / 'p'}")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "p").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(5)]
    assert Image.open(files[0]).size == (8, 8) and Image.open(files[0]).mode == "L"
    done = script("sample.py", f"--workdir={folder}", "--n=4", "--raw", "--seed=1")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.parent == folder / "samples" and Image.open(path).size[0] >= 512


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "--workdir is required"),
        (["--workdir=/nowhere"], "holds no run"),
        (["--workdir={run}", "--step=3"], "no checkpoint of step 3; it has"),
        (["--workdir={run}", "--steps=21"], "cannot take 21 steps from a process of 20"),
        (["--workdir={run}", "--sampler=dim"], "is not one of ancestral"),
        (["--workdir={run}", "--n=0"], "n"),
    ],
)
def test_sampling_mistakes_end_in_one_line(run, args, line):
    done = script("sample.py", *(a.format(run=run[0]) for a in args))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and line in done.stderr


def test_help_is_immediate_and_imports_nothing_heavy():
    for name in ("train.py", "sample.py", "evaluate.py"):
        done = script(name, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert done.returncode == 0 and "--workdir" in done.stdout
        assert "| jax" not in done.stderr.replace("|   ", "| ") and " flax" not in done.stderr


def test_the_loss_figure(run, tmp_path):
    folder, _ = run
    done = script("figures.py", f"--workdir={folder}", f"--out={tmp_path / 'f' / 'loss.png'}")
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "f" / "loss.png").convert("L"))
    assert picture.shape[1] > 1000 and picture.std() > 5  # something is drawn
    nothing = script("figures.py", "--workdir=/nowhere")
    assert nothing.returncode == 2 and "holds no run" in nothing.stderr
