"""Starts that end before a checkpoint is complete leave a folder to any other start: another config, other devices."""

import os
import subprocess
import sys
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import jax
import pytest

from diffusion.commands import import_weights, train, train_classifier
from diffusion.config import default_config
from diffusion.distributed import sharding
from diffusion.experiment import build, build_guidance
from diffusion.runtime.signals import Stop, Stopped
from diffusion.training import loop
from diffusion.workdir import run_config
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.checkpoint import Checkpoints
from tests.support.networks import TwoConvolutions, using

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "diffusion.T": 20,
    "net.channels": 4,
    "net.multipliers": (1,),
    "train.batch_size": 8,
    "train.steps": 2,
    "eval.final": False,
    "eval.quick_n": 4,
    "eval.quick_steps": 2,
    "sample.n": 4,
    "sample.preview_steps": 2,
}


def config(**changes):
    small = default_config()
    small.update_from_flattened_dict({**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}})
    small.lock()
    return small


def script(folder, devices, *flags):
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    values = {key: ",".join(map(str, v)) if isinstance(v, tuple) else str(v).lower() for key, v in SMALL.items()}
    values = [f"--config.{key}={value}" for key, value in {**values, "diffusion.T": 20, "net.attention": "()"}.items()]
    command = [sys.executable, "scripts/train.py", *values, *flags, f"--workdir={folder}"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def test_a_start_on_too_many_devices_leaves_the_folder_to_the_next(tmp_path):
    """The real script: refused in one line, then with fewer devices and another config it trains there."""
    refused = script(tmp_path, 3, "--config.optim.lr=0.5")
    assert refused.returncode == 2 and "use 6 or 9" in refused.stderr, refused.stderr
    assert not (tmp_path / "config.json").exists()
    done = script(tmp_path, 1)
    assert done.returncode == 0 and "existing run" not in done.stderr, done.stderr
    assert run_config.read_run(tmp_path).config.optim.lr == 1e-3


def stop(*_):
    raise Stopped("stopped", 75)


def fail(*_):
    raise MemoryError("too large")


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("end", [stop, fail, interrupt])
def test_an_end_while_compiling_leaves_the_folder_to_any_config(tmp_path, monkeypatch, end):
    with using(TwoConvolutions), monkeypatch.context() as patch:
        patch.setattr(loop, "compile_steps", end)
        for run_in in (train.run, train_classifier.run):
            with pytest.raises((Stopped, ValueError, MemoryError, KeyboardInterrupt)):
                run_in(config(), tmp_path, print)
    assert manifest.newest(tmp_path) == [] and not (tmp_path / "config.json").exists()
    assert not run_config.exists(tmp_path, run_config.Run(config(net__channels=8), (8, 8, 1), 10))


def test_a_signal_while_compiling_leaves_the_folder_to_any_config(tmp_path, monkeypatch):
    """It is seen when the program is compiled: no step has been computed, so there is nothing to save."""
    asked, real, lines = Stop(), loop.compile_steps, []

    def signalled(*args):
        asked._number = 15
        return real(*args)

    monkeypatch.setattr(loop, "compile_steps", signalled)
    with using(TwoConvolutions), pytest.raises(Stopped, match="SIGTERM"):
        train.run(config(), tmp_path, lines.append, asked)
    assert manifest.newest(tmp_path) == []
    monkeypatch.setattr(loop, "compile_steps", real)
    monkeypatch.setattr(sharding, "make_mesh", lambda: jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))
    with using(TwoConvolutions):
        train.run(config(optim__lr=0.5), tmp_path, lines.append)
    assert manifest.newest(tmp_path)[0].name == "2" and run_config.read_run(tmp_path).config.optim.lr == 0.5


def test_fewer_steps_than_a_run_has_made_are_refused(tmp_path):
    """Its results would pass for those of fewer steps, in an ablation's table too."""
    run = run_config.Run(config(), (8, 8, 1), 10)
    with using(TwoConvolutions):
        ours = build.experiment(*run[:3])
        state = ours.create_state()
        import_weights.write_run(tmp_path / "r", ours, run, 3, state.ema, state.params, {})
        state = build_guidance.create_state(*run[:3])
        claim = partial(run_config.write_config, tmp_path / "c", run, "cpu")
        with closing(Checkpoints(tmp_path / "c" / manifest.CLASSIFIER, about=run.content, claim=claim)) as checkpoints:
            checkpoints.require(3, state._replace(step=state.step + 3))
        for folder, run_in in (("r", train.run), ("c", train_classifier.run)):
            before = (tmp_path / folder / "config.json").read_bytes()
            with pytest.raises(ValueError, match="has made 3 steps already, more than 2; raise it"):
                run_in(config(), tmp_path / folder, print)
            assert (tmp_path / folder / "config.json").read_bytes() == before


def test_the_final_evaluation_checks_after_each_batch_whether_all_processes_stop(tmp_path, monkeypatch):
    checked = []

    class Several(Stop):
        @contextmanager
        def together(self):
            yield checked.append

    monkeypatch.setattr(loop, "train", lambda training, state, *rest: state)  # noqa: ARG005
    with using(TwoConvolutions):
        train.run(config(), tmp_path, print, Several())
    assert checked == [4]
