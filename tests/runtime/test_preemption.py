"""Signals and restarts: a run that was stopped or killed anywhere ends as one that was left alone, to the last bit."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np
import pytest

from diffusion.config import default_config
from diffusion.data.digits import digits
from diffusion.distributed import sharding
from diffusion.experiment import build
from diffusion.runtime.signals import STOPPED, Stop, Stopped
from diffusion.training import loop
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from tests.stress import kill
from tests.support import runs
from tests.support.networks import TwoConvolutions, using

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "data.name": "digits",
    "data.flip": True,
    "diffusion.T": 50,
    "diffusion.beta_T": 0.3,
    "objective.timesteps": "loss_second_moment",
    "net.channels": 8,
    "net.multipliers": (1,),
    "net.blocks": 1,
    "net.attention": (),
    "net.dropout": 0.2,
    "optim.warmup_steps": 2,
    "train.batch_size": 8,
    "train.steps": 9,
    "train.log_every": 4,
    "train.eval_every": 3,
    "train.sample_every": 3,
    "train.checkpoint_every": 5,
    "train.keep": 10,
    "train.keep_best": True,
}


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as Python has it: a process that a shell starts in the background ignores it, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number=signal.SIGTERM):
    """A signal to this process."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python's handler runs at the next bytecodes


def bits(tree):
    """Every leaf's bytes."""
    plain = [jax.random.key_data(x) if jnp_key(x) else x for x in jax.tree.leaves(tree)]
    return [np.asarray(x).tobytes() for x in plain]


def nothing(step):
    """Where nothing is to happen."""
    assert step >= 0


def jnp_key(x):
    """Whether a leaf is a random key."""
    return jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Training steps of the same shapes are compiled once for all runs; they are pure functions of their arguments."""
    known, real = {}, loop.compile_steps

    def compile_once(task, update, feed, state, batches):
        shapes = str(jax.tree.map(lambda x: (x.shape, x.dtype), (feed.data, batches)))
        if shapes not in known:
            known[shapes] = real(task, update, feed, state, batches)
        return known[shapes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_steps", compile_once)
        yield


@lru_cache
def first_state():
    """The state before the first step, the same in all these runs."""
    return Run(Path()).ours.create_state()


class Run:
    """A run in a folder, on one device, with previews and estimates that cost nothing and tell every bit apart."""

    def __init__(self, folder, **overrides):
        config = default_config()
        config.update_from_flattened_dict({**SMALL, **overrides})
        with using(TwoConvolutions):
            ours = build.experiment(config, (8, 8, 1), 10, sharding.make_mesh(jax.devices()[:1]))
        self.folder, self.ours = folder, ours
        self.said = []
        self.on_batch = self.on_evaluate = self.on_preview = nothing

    def preview(self, params):
        """The bits of a kernel as a picture."""
        self.on_preview(self.drawn)
        self.drawn += 1
        return np.frombuffer(np.asarray(params["conv_in"]["kernel"]).tobytes(), np.uint8).reshape(-1, 16, 1)

    def evaluate(self, state):
        """A number that follows from every weight; not monotone in the step."""
        self.on_evaluate(int(state.step))
        return {"bits_per_dim": float(sum(np.abs(np.asarray(x)).sum() for x in jax.tree.leaves(state.ema))) % 0.01}

    def feed(self):
        """Batches; `on_batch` is told the step that each is for."""
        plain = self.ours.feed(digits(train=True))

        def batches(first):
            for step, batch in enumerate(plain.batches(first), first):
                self.on_batch(step)
                yield batch

        return plain._replace(batches=batches)

    def go(self, stop=None):
        """From the newest checkpoint on; the last state."""
        self.drawn = 0
        experiment, initial = self.ours, jax.tree.map(lambda x: x.copy(), first_state())
        parts = experiment.task(), experiment.update(), self.feed(), initial, experiment.config.train
        return runs.train(self.folder, *parts, self.said.append, stop, self.preview, self.evaluate)

    def lines(self):
        """The metrics, without speeds."""
        read = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in read]

    def grids(self):
        """The sample grids."""
        return {path.name: path.read_bytes() for path in (self.folder / "samples").glob("*.png")}

    def kept(self):
        """The steps that are kept for good."""
        return sorted(path.name for path in (self.folder / "kept").iterdir())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run that nobody touches, and its last state."""
    run = Run(tmp_path_factory.mktemp("straight"))
    return run, bits(run.go())


def same(run, state, straight):
    """Asserts that a run came out as the one that was left alone."""
    alone, last = straight
    assert bits(state) == last
    assert run.lines() == alone.lines()
    assert run.grids() == alone.grids() and len(run.grids()) == 6
    assert run.kept() == alone.kept()


def test_lines_are_those_of_the_plan(straight):
    run, _ = straight
    assert [line["step"] for line in run.lines() if "train/loss" in line] == [4, 8, 9]
    assert [line["step"] for line in run.lines() if "eval/bits_per_dim" in line] == [3, 6, 9]


@pytest.mark.parametrize(
    ("where", "at", "saved"),
    [("on_batch", 0, None), ("on_batch", 5, 6), ("on_evaluate", 3, 3), ("on_preview", 1, 3), ("on_preview", 2, 6)],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path, straight, where, at, saved):
    """A signal while a step is dispatched, in an estimate, between two grids: saved at that step, and all is redone."""
    run = Run(tmp_path / "run")
    setattr(run, where, lambda step: send() if step == at else None)
    with Stop.on_signals(resumable=True) as stop, pytest.raises(Stopped) as error:
        run.go(stop)
    assert error.value.status == STOPPED and "stopped by SIGTERM" in str(error.value)
    with closing(RunCheckpoints(tmp_path / "run")) as streams:
        assert max(streams.rolling.steps(), default=None) == saved
    setattr(run, where, nothing)
    same(run, run.go(), straight)


def test_streamed_data_and_several_steps_a_dispatch(tmp_path):
    """A stop falls between two dispatches, at a step at which nothing else is due."""
    how = {"data.resident_mb": 0, "train.steps_per_dispatch": 2}
    alone = Run(tmp_path / "alone", **how)
    last = bits(alone.go())
    run = Run(tmp_path / "run", **how)
    run.on_batch = lambda step: send(signal.SIGINT) if step == 6 else None
    with Stop.on_signals(resumable=True) as stop, pytest.raises(Stopped, match="SIGINT"):
        run.go(stop)
    run.on_batch = nothing
    same(run, run.go(), (alone, last))


@pytest.mark.parametrize("at", [3, 6, 9])
def test_what_a_killed_process_leaves_is_enough(tmp_path, straight, at):
    """The folder as it stands in an estimate, perhaps in the middle of a save: what SIGKILL would leave."""
    run = Run(tmp_path / "run")
    run.on_evaluate = lambda step: shutil.copytree(tmp_path / "run", tmp_path / "left") if step == at else None
    run.go()
    left = Run(tmp_path / "left")
    same(left, left.go(), straight)


def test_n_steps_and_m_more_are_n_plus_m(tmp_path):
    """In two processes' worth, N being a multiple of the periods of the reports."""
    alone = Run(tmp_path / "alone", **{"train.log_every": 3})
    last = bits(alone.go())
    Run(tmp_path / "run", **{"train.log_every": 3, "train.steps": 6}).go()
    run = Run(tmp_path / "run", **{"train.log_every": 3})
    same(run, run.go(), (alone, last))


def test_a_save_that_fails_is_said_and_training_goes_on(tmp_path, straight, monkeypatch):
    run = Run(tmp_path / "run")
    real = manifest.write
    failed = []

    def write(folder, content):
        if content["step"] == 5 and not failed:
            failed.append(5)
            raise OSError(28, "No space left on device")
        real(folder, content)

    monkeypatch.setattr(manifest, "write", write)
    same(run, run.go(), straight)
    assert failed and any("step 5 could not be saved (No space left on device)" in line for line in run.said)
    with closing(RunCheckpoints(tmp_path / "run")) as streams:
        assert streams.rolling.steps() == [0, 9]


def test_an_unsaved_last_state_is_an_error(tmp_path, monkeypatch):
    """A stop whose save fails twice does not claim that all is well."""
    run = Run(tmp_path / "run")
    run.on_batch = lambda step: send() if step == 2 else None
    real = manifest.write

    def write(folder, content):
        if content["step"]:
            raise OSError(28, "No space left on device")
        real(folder, content)

    monkeypatch.setattr(manifest, "write", write)
    with (
        Stop.on_signals(resumable=True) as stop,
        pytest.raises(ValueError, match=r"step 3 could not be saved .*No space"),
    ):
        run.go(stop)


# --------------------------------------------------------------------------------------------------------------- Stop


def test_a_signal_raises_unless_deferred():
    with Stop.on_signals() as stop, pytest.raises(Stopped) as error:
        send(signal.SIGINT)
    assert error.value.status == 130 and isinstance(error.value, KeyboardInterrupt) and stop.asked
    with Stop.on_signals(resumable=True) as stop, stop.deferred():
        assert not stop.agreed()
        send()
        assert stop.agreed() and stop.agreed(wait=True)
        with pytest.raises(Stopped) as error, stop.interruptible():
            raise AssertionError("the signal had come before")
    assert error.value.status == STOPPED
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not Stop().agreed()


def test_one_of_several_processes_stops_where_all_of_them_check(monkeypatch):
    """As in the final evaluation: elsewhere the others would wait for it."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(Stop, "_total", lambda stop: int(stop.asked))
    reached = []
    with Stop.on_signals(resumable=True) as stop, pytest.raises(Stopped) as error, stop.together() as check:
        check()
        send()
        reached.append(1)
        check(16)
        reached.append(2)
    assert reached == [1] and error.value.status == STOPPED and not error.value.alone
    with Stop.on_signals(resumable=True) as stop, pytest.raises(Stopped) as error:
        send()
    assert error.value.alone


def test_a_single_process_stops_at_once():
    with Stop.on_signals() as stop, pytest.raises(Stopped), stop.together() as check:
        check()
        send()
        raise AssertionError("the signal had come before")


def process(code, *args):
    """A Python process of the project, its output piped."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


BUSY = """
import hashlib
from diffusion.runtime.signals import Stop
with Stop.on_signals(resumable=True) as stop, stop.deferred():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2 * 10**9)  # no bytecode for a long time, as in a compilation
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_the_process_at_once(number, status):
    busy = process(BUSY)
    assert busy.stdout.readline() == "ready\n"
    busy.send_signal(number)
    assert "a second signal ends the process at once" in busy.stderr.readline()
    time.sleep(0.3)
    assert busy.poll() is None
    busy.send_signal(number)
    assert busy.wait(10) == status
    busy.communicate()


SCRIPT = """
import time
from diffusion.runtime import command_line as cli
def main():
    print("ready", flush=True)
    time.sleep(60)
cli.run(main, ["script"])
"""


@pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "SIGINT")]
)
def test_other_scripts_end_in_one_line(number, status, name):
    done = process(SCRIPT)
    assert done.stdout.readline() == "ready\n"
    done.send_signal(number)
    _, said = done.communicate(timeout=20)
    assert done.returncode == status and said.strip().splitlines() == [f"-c: interrupted by {name}"]


LOST = """
import gc, os, signal, time, weakref
from contextlib import nullcontext
from diffusion.runtime import command_line as cli
from diffusion.runtime.signals import Stop
def signalled(*_):
    gc.callbacks.clear()  # it is called at the start and at the end
    os.kill(os.getpid(), signal.SIGTERM)
    sum(range(1000))
class Closed:
    __del__ = signalled
def main():
    if sys.argv[1] == "elsewhere":
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGURG)
            sum(range(1000))
            print("went on", flush=True)
    elif sys.argv[1] == "collector":
        gc.callbacks.append(signalled)
        gc.collect()
    elif sys.argv[1] == "weakref":
        watched = type("Watched", (), {})()
        watch = weakref.ref(watched, signalled)
        del watched
    else:
        Closed()
    print("went on", flush=True)
    with Stop.on_signals(resumable=True) if sys.argv[1] == "before" else nullcontext():
        time.sleep(60)
cli.run(main, ["script"])
"""


@pytest.mark.parametrize("where", ["collector", "weakref", "destructor", "elsewhere"])
def test_a_signal_is_not_lost_where_python_ignores_exceptions(where):
    """And the signal that raises it again, where it comes from elsewhere, does not raise it twice."""
    out, said = process(LOST, where).communicate(timeout=20)
    assert out.strip() == "went on"
    assert said.strip().splitlines() == ["-c: interrupted by SIGTERM"]


def test_a_signal_lost_just_before_a_resumable_part_stops_that():
    done = process(LOST, "before")
    _, said = done.communicate(timeout=20)
    assert done.returncode == STOPPED and said.strip() == "-c: stopped by SIGTERM: start it again to resume"


AGREE = """
import os, signal, time
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax
index = int(sys.argv[2])
jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, index)
from diffusion.runtime.signals import Stop
with Stop.on_signals(resumable=True) as stop, stop.deferred():
    for step in range(500):
        if stop.agreed():
            break
        if step == 5 and index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01 * index)
    print("stopped at", step, stop.asked, flush=True)
"""


def test_all_processes_stop_at_the_same_step():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [process(AGREE, port, index) for index in range(2)]
    ends = [done.communicate(timeout=120) for done in both]
    found = [next(line for line in out.splitlines() if line.startswith("stopped at")).split() for out, _ in ends]
    assert found[0][2] == found[1][2] and 5 < int(found[0][2]) < 12
    assert (found[0][3], found[1][3]) == ("False", "True")


ALONE = """
import os, signal
os.environ["JAX_PLATFORMS"] = "cpu"
from diffusion.config import default_config
from diffusion.distributed import agreement_between_processes
from diffusion.distributed.initialize import Processes, initialized
from diffusion.runtime import command_line
from diffusion.runtime.signals import Stop
port, index, wait = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
def batches(check):
    for batch in range(9):
        if index and batch == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        agreement_between_processes.any_process(False)
        check(batch)
def main():
    processes = Processes(f"localhost:{port}", 2, index)
    with Stop.on_signals(resumable=True) as stop, initialized(processes, default_config()):
        if wait:
            with stop.together() as check:
                batches(check)
        batches(lambda batch: None)
command_line.run(main, ["script"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("together",)])
def test_a_signal_to_one_process_outside_of_the_loop_ends_all(how):
    """It does not wait for the others at jax's barrier, where they would never come; or all end after one batch.

    Alone, the other process ends by a failed collective or by jax's abort, whichever is first.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [process(ALONE, port, index, *how) for index in range(2)]
    ends = [done.communicate(timeout=280)[1].strip().splitlines()[-1] for done in both]
    assert both[1].returncode == STOPPED and both[0].returncode in (
        (STOPPED,) if how else (STOPPED, -signal.SIGABRT)
    ), ends
    assert ends[1] == "-c: stopped by SIGTERM: start it again to resume"


# ------------------------------------------------------------------------------------------------------- real processes


@pytest.mark.slow
def test_a_real_run_killed_and_stopped_ends_the_same(tmp_path):
    """One SIGKILL and one SIGTERM; `make stress` does it with 25 and 10."""
    assert kill.run(tmp_path, kills=1, terms=1, seed=2, extra=["--config.eval.final=false"]) >= 1
