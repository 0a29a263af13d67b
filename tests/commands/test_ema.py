"""scripts/ema.py on a run: an average that the run kept is found again, and the result is a run like any other."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from diffusion.commands import ema, train
from diffusion.config import default_config
from diffusion.experiment import build
from diffusion.experiment.load_run import load
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from diffusion.workdir.run_config import read_run

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]


def config():
    c = default_config()
    small = {
        "diffusion.T": 4,
        "diffusion.schedule": "cosine",
        "net.channels": 4,
        "net.multipliers": (1,),
        "net.attention": (),
        "train.steps": 6,
    }
    quiet = {"train.batch_size": 8, "train.sample_every": 0, "train.eval_every": 0, "eval.final": False}
    kept = {"train.keep_every": 2, "train.checkpoint_every": 2, "optim.power_ema": True, "optim.lr": 0.1}
    c.update_from_flattened_dict({**small, **quiet, **kept, "sample.n": 4, "sample.preview_steps": 2})
    c.compilation_cache = "off"
    return c


def test_a_kept_width_comes_out_and_any_other_is_between(tmp_path):
    folder, lines = tmp_path / "run", []
    train.run(config(), folder, [].append)
    run = read_run(folder)
    experiment = build.experiment(run.config, run.shape, run.classes)
    state, _ = RunCheckpoints(folder).load(lambda: experiment.fresh().like, 6, print)
    for width, expected in zip((0.05, 0.1), state.opt_state.averages, strict=True):
        ema.reconstruct(folder, tmp_path / f"ema_{width}", width, None, lines.append)
        _, params, step = load(tmp_path / f"ema_{width}", read_run(tmp_path / f"ema_{width}"))
        assert step == 6
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert lines[0] == "average     width 0.05 at step 6, from 3 checkpoints with two averages each"
    ema.reconstruct(folder, tmp_path / "earlier", 0.1, 4, lines.append)
    assert load(tmp_path / "earlier", read_run(tmp_path / "earlier"))[2] == 4
    raw = load(tmp_path / "earlier", read_run(tmp_path / "earlier"), raw=True)[1]
    trained = load(folder, run, 4, raw=True)[1]
    for a, b in zip(jax.tree.leaves(raw), jax.tree.leaves(trained), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="earlier holds a run already: give another --out"):
        ema.reconstruct(folder, tmp_path / "earlier", 0.1, 4, lines.append)
    with pytest.raises(ValueError, match=r"width 0.5 is not above 0 and below 0\.2887"):
        ema.reconstruct(folder, tmp_path / "out", 0.5, None, print)


def test_a_damaged_checkpoint_is_left_out(tmp_path):
    folder, lines = tmp_path / "run", []
    train.run(config(), folder, [].append)
    assert RunCheckpoints(folder).steps() == [2, 4, 6]
    for path in folder.glob("*/2/default/manifest.ocdbt"):
        path.write_text("damaged")
    ema.reconstruct(folder, tmp_path / "out", 0.08, None, lines.append)
    assert all(line.startswith("skipped ") and "/2 " in line for line in lines[:-2]) and len(lines) > 2
    assert lines[-2] == "average     width 0.08 at step 6, from 2 checkpoints with two averages each"
    assert json.loads((tmp_path / "out" / "imported.json").read_text())["checkpoints"] == [4, 6]
    with pytest.raises(ValueError, match=r"manifest\.ocdbt"):
        ema.reconstruct(folder, tmp_path / "at_2", 0.08, 2, lines.append)


def test_a_checkpoint_before_the_first_update_has_no_average(tmp_path):
    """Of a short run that of step 0 is still there."""
    short, lines = config(), []
    short.train.steps = 2
    train.run(short, tmp_path / "run", [].append)
    ema.reconstruct(tmp_path / "run", tmp_path / "out", 0.1, None, lines.append)
    assert RunCheckpoints(tmp_path / "run").steps() == [0, 2]
    assert lines[0] == "average     width 0.1 at step 2, from 1 checkpoints with two averages each"
    with pytest.raises(ValueError, match="run: no update was made up to step 0; give a later --step"):
        ema.reconstruct(tmp_path / "run", tmp_path / "early", 0.1, 0, lines.append)


def test_the_working_directory_may_be_the_run(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "ema.py", "--workdir=.", "--width=0.1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "holds no run" in done.stderr and len(done.stderr.splitlines()) == 1


def test_missing_flags_end_in_one_line():
    command = [sys.executable, ROOT / "scripts" / "ema.py", "--width=0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert "--workdir and --width are required" in done.stderr and len(done.stderr.splitlines()) == 1
