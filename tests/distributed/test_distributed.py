"""Several processes as one run: the same batches and draws, common checkpoints, and an end for all when one ends.

Processes, jax.distributed and gloo's collectives are real; the hosts are one.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from diffusion.data.digits import digits
from diffusion.distributed import agreement_between_processes, global_arrays, sharding
from diffusion.runtime.paths import expanded
from diffusion.training import batch_feed
from diffusion.workdir import metrics_jsonl_files
from tests.stress import kill
from tests.support import buckets, together

ROOT = Path(__file__).resolve().parents[2]
RESUMABLE = 75
LOST = {RESUMABLE, -signal.SIGABRT}
"""Statuses when another process is gone: a collective fails, or jax aborts."""


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("owners", [[0] * 4 + [1] * 4, [0, 1] * 4, [0, 0, 0, 0, 0, 1, 2, 2], [2, 0, 1, 1, 0, 0, 0, 2]])
@pytest.mark.parametrize("order", [range(8), [3, 1, 0, 2, 7, 6, 5, 4]])
def test_shares_of_a_batch_are_disjoint_and_whole(owners, order):
    """Whatever devices a process has, and in whatever order the mesh has them."""
    place = sharding.split_axis(sharding.make_mesh([jax.devices()[i] for i in order]))
    held = place.devices_indices_map((24,))
    shares = [
        global_arrays.local_rows([index for device, index in held.items() if owners[device.id] == process], 24)
        for process in sorted(set(owners))
    ]
    assert sorted(np.concatenate(shares)) == list(range(24))
    for process, share in enumerate(shares):
        assert len(share) == 3 * owners.count(process) and np.all(np.diff(share) > 0)


def test_the_process_and_the_fact_that_differ_are_named(monkeypatch):
    def others(own):
        other = own.copy()
        other[1] += 1
        return np.stack([own, own, other])

    agreement_between_processes.require_same({"seed": 0, "the data": "1500 images"})
    monkeypatch.setattr(agreement_between_processes, "all_gather", others)
    with pytest.raises(ValueError, match="process 2 differs from process 0 in the data, which is 1500 images in proc"):
        agreement_between_processes.require_same({"seed": 0, "the data": "1500 images"})


def test_a_mistake_that_one_process_finds_ends_all(monkeypatch):
    with pytest.raises(OSError, match="no such folder"), agreement_between_processes.mistakes_shared():
        raise OSError("no such folder")
    with agreement_between_processes.mistakes_shared():
        pass
    monkeypatch.setattr(agreement_between_processes, "all_gather", lambda own: np.stack([own, own + 1]))
    with (
        pytest.raises(ValueError, match="process 1 found an error, which it prints"),
        agreement_between_processes.mistakes_shared(),
    ):
        pass


def test_a_batch_that_does_not_divide():
    with pytest.raises(ValueError, match="batch_size = 12 does not divide over 8 devices; use 8 or 16"):
        batch_feed.streamed(digits(train=True), 0, 12, sharding.make_mesh(), 0)


class Group:
    """Processes that are started together; on one machine, with `devices` CPU devices each.

    Compiled without optimisation: compiled programs are kept for process 0 alone, and the nets are tiny.
    """

    def __init__(self, folder, commands, devices, environments=None):
        flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        settings = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        settings.pop("DIFFUSION_TRACEBACK", None)
        folder.mkdir(parents=True, exist_ok=True)
        self.logs = [folder / f"log.{i}" for i in range(len(commands))]
        self.processes = []
        for command, log, more in zip(commands, self.logs, environments or [{}] * len(commands), strict=True):
            with log.open("wb") as console:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, *command], cwd=ROOT, env=settings | more, stdout=console, stderr=console
                    )
                )

    def text(self, process):
        return self.logs[process].read_text()

    def last(self, process):
        return self.text(process).strip().splitlines()[-1]

    def statuses(self, limit=800):
        deadline = time.monotonic() + limit
        try:
            return [process.wait(max(1, deadline - time.monotonic())) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()


def workers(folder, processes, devices, **spec):
    worker = str(ROOT / "tests" / "support" / "together.py")
    spec |= {"port": free_port(), "processes": processes, "folder": str(folder)}
    return Group(folder, [[worker, json.dumps({**spec, "process": i})] for i in range(processes)], devices)


def alone(folder, first, last, rules="replicated", devices=4):
    return list(together.steps(rules, folder, first, last, list(range(devices))))


def assert_same(found, expected, who=""):
    """Batches and draws exactly, losses to 1e-5; says by how much losses differ (`pytest -s` shows it)."""
    assert [row[0] for row in found] == [row[0] for row in expected]
    assert [row[2] for row in found] == [row[2] for row in expected]
    losses, wanted = np.array([row[1] for row in found]), np.array([row[1] for row in expected])
    if who:
        print(f"\n{who}: losses of {len(losses)} steps differ by {np.max(np.abs(losses / wanted - 1)):.1e} at most")
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_as_one_until_one_is_killed(tmp_path):
    """2 x 2 devices, in the mesh by turns; saved at step 2; process 1 is killed after step 3; one process goes on."""
    group = workers(tmp_path, 2, 2, steps=4, save=2, die=[1, 3], order=[0, 2, 3, 1])
    expected = alone(tmp_path, 0, 4)
    lost, killed = group.statuses()
    assert lost in LOST and killed == -signal.SIGKILL, group.text(0)
    assert_same(json.loads((tmp_path / "seen.1.json").read_text()), expected[:3])
    assert_same(alone(tmp_path, 2, 4), expected[2:])


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 4), (2, 2), (4, 1)])
@pytest.mark.parametrize("rules", ["replicated", "fsdp"])
def test_processes_and_rules_change_neither_draws_nor_losses(tmp_path, processes, devices, rules):
    """50 steps, against one device; then 5 from a checkpoint of step 25, by another number of processes."""
    group = workers(tmp_path, processes, devices, steps=50, save=25, rules=rules)
    expected = alone(tmp_path, 0, 50, devices=1)
    assert group.statuses() == [0] * processes, group.text(0)
    for process in range(processes):
        who = f"processes {processes} of {devices} devices, {rules}, process {process}"
        assert_same(json.loads((tmp_path / f"seen.{process}.json").read_text()), expected, who)
    others = {1: 2, 2: 4, 4: 2}[processes]
    other = workers(tmp_path, others, 1, steps=30, first=25)
    assert other.statuses() == [0] * others, other.text(0)
    assert_same(json.loads((tmp_path / "seen.0.json").read_text()), expected[25:30])
    assert_same(alone(tmp_path, 25, 30, devices=1), expected[25:30])


@pytest.mark.slow
def test_the_end_of_process_0_ends_the_others(tmp_path):
    """It hosts jax's service: the others end by a failed collective or by jax's abort, whichever is first."""
    group = workers(tmp_path, 4, 1, steps=10**6, save=2, die=[0, 3])
    while group.processes[0].poll() is None:
        time.sleep(0.1)
    died = time.monotonic()
    first, *others = group.statuses()
    assert time.monotonic() - died < 60
    assert first == -signal.SIGKILL and set(others) <= LOST, others
    for process in (1, 2, 3):
        text = group.text(process)
        assert "another process or the network failed" in text or "leader task was preempted/died" in text


@pytest.mark.slow
def test_an_error_in_one_process_ends_all(tmp_path):
    group = workers(tmp_path, 2, 1, steps=10, fail=1)
    lost, failed = group.statuses()
    assert lost in LOST and failed == 2
    assert group.last(1) == "together.py: the data of this host are gone"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_without_a_heartbeat_ends_the_others(tmp_path):
    """A host that is suspended or without network: its connections stay open, and jax's heartbeats end the others."""
    group = workers(tmp_path, 2, 1, steps=10**6, save=2, suspend=[1, 3])
    try:
        started = time.monotonic()
        status = group.processes[0].wait(250)
    finally:
        for process in group.processes:
            process.kill()
    assert status in LOST and time.monotonic() - started < 250
    assert "heartbeat" in group.text(0)


SCRIPT = [
    str(ROOT / "scripts" / "train.py"),
    "--config=configs/digits.py",
    "--config.diffusion.T=20",
    "--config.diffusion.beta_T=0.7",
    "--config.net.channels=8",
    "--config.net.multipliers=1",
    "--config.net.attention=()",
    "--config.train.batch_size=16",
    "--config.train.steps_per_dispatch=1",
    "--config.train.log_every=1",
    "--config.train.sample_every=4",
    "--config.train.eval_every=4",
    "--config.train.checkpoint_every=2",
    "--config.eval.noise_scale=true",
    "--config.sample.n=4",
    "--config.sample.preview_steps=5",
    "--config.eval.n=4",
    "--config.eval.quick_n=4",
    "--config.eval.quick_steps=5",
]


def scripts(folder, logs, processes, devices, *more, missing=()):
    flags = [
        f"--workdir={folder}",
        "--distributed",
        f"--coordinator=localhost:{free_port()}",
        f"--processes={processes}",
    ]
    present = [i for i in range(processes) if i not in missing]
    return Group(logs, [[*SCRIPT, *flags, f"--process={i}", *more] for i in present], devices)


def curve(folder):
    lines = [json.loads(line) for line in metrics_jsonl_files.read(folder)]
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


@pytest.fixture
def run(request, tmp_path, monkeypatch):
    """The folder of a run: on a disk, or in the bucket of a service."""
    if request.param == "disk":
        yield tmp_path / "run"
        return
    with buckets.running(request.param) as service:
        buckets.clients(service, monkeypatch)
        yield expanded(f"{service.url}/run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rules", "run"), [("replicated", "disk"), ("fsdp", "disk"), ("replicated", "s3"), ("fsdp", "gs")], indirect=["run"]
)
def test_a_run_on_other_numbers_of_processes(tmp_path, rules, run):
    """The whole script: 8 steps by 2 processes and by 1; the one of 2, stopped by a signal to one of them, by 4.

    On a disk that they share, and in a bucket.
    """
    rule = f"--config.train.sharding={rules}"
    one = scripts(tmp_path / "one", tmp_path / "a", 1, 4, rule, "--config.train.steps=8")
    two = scripts(run, tmp_path / "b", 2, 2, rule, "--config.train.steps=100000")
    while "step 2/" not in two.text(0):
        assert two.processes[0].poll() is None, two.text(0)
        time.sleep(0.1)
    two.processes[1].send_signal(signal.SIGTERM)
    assert two.statuses() == [RESUMABLE, RESUMABLE], two.text(0)
    assert "stopped" in two.last(0) and "start it again" in two.last(0)
    before = curve(run)
    four = scripts(run, tmp_path / "c", 4, 1, rule, f"--config.train.steps={max(before) + 8}")
    assert four.statuses() == [0] * 4, four.text(0)
    assert "resumed from step" in four.text(0)
    for process in (1, 2, 3):
        assert "step " not in four.text(process) and "folder  " not in four.text(process)
    assert one.statuses() == [0], one.text(0)
    alone, together = curve(tmp_path / "one"), curve(run)
    assert sorted(together) == list(range(1, max(before) + 9))
    shared = sorted(alone.keys() & together.keys())
    np.testing.assert_allclose([together[s] for s in shared], [alone[s] for s in shared], rtol=1e-5)
    assert (run / "samples" / "step_0000004.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("rules", "run"), [("fsdp", "s3"), ("replicated", "gs")], indirect=["run"])
def test_four_processes_end_with_the_same_bits_in_a_bucket_as_on_a_disk(tmp_path, rules, run):
    few = [f"--config.train.{name}" for name in ("steps=2", "sample_every=2", "checkpoint_every=1", "eval_every=0")]
    for place in (run, tmp_path / "disk"):
        group = scripts(
            place,
            tmp_path / f"log_{place.name}",
            4,
            1,
            f"--config.train.sharding={rules}",
            "--config.eval.final=false",
            *few,
        )
        assert group.statuses() == [0] * 4, group.text(0)
    kill.compare(run, tmp_path / "disk")


@pytest.mark.slow
def test_jax_ends_a_start_without_all_processes(tmp_path):
    started = time.monotonic()
    group = scripts(tmp_path / "run", tmp_path / "logs", 3, 1, "--start_timeout=20", missing=(1,))
    assert group.statuses() == [-signal.SIGABRT] * 2
    assert time.monotonic() - started < 90
    assert "DEADLINE_EXCEEDED" in group.text(0) and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "fact"),
    [("--config.optim.lr=0.003", "config.optim.lr"), ("--workdir={other}", "--workdir being on a shared disk")],
)
def test_the_script_names_the_process_that_differs(tmp_path, change, fact):
    flags = [f"--workdir={tmp_path / 'run'}", f"--coordinator=localhost:{free_port()}", "--processes=2"]
    commands = [[*SCRIPT, *flags, f"--process={i}"] for i in range(2)]
    commands[1].append(change.format(other=tmp_path / "other"))
    group = Group(tmp_path / "logs", commands, 1)
    assert group.statuses() == [2, 2], group.text(0)
    for process in (0, 1):
        assert group.last(process).startswith(f"train.py: process 1 differs from process 0 in {fact}, which is ")
    assert not (tmp_path / "run" / "checkpoints").exists() and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_mistake_that_process_0_finds_alone_has_one_status(tmp_path):
    """A batch system must not start it again: the folder cannot be written."""
    (tmp_path / "run").touch()
    group = scripts(tmp_path / "run", tmp_path / "logs", 2, 1)
    assert group.statuses() == [2, 2], group.text(1)
    assert "cannot be written" in group.last(0) and "process 0 found an error" in group.last(1)


@pytest.mark.slow
def test_slurm_sets_address_and_numbers(tmp_path):
    """jax reads SLURM's variables, and derives the port from the number of the job."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    environments = [{**job, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    steps = ["--config.train.steps=2", "--noconfig.eval.final"]
    command = [*SCRIPT, f"--workdir={tmp_path / 'run'}", "--distributed", *steps]
    group = Group(tmp_path / "logs", [command] * 2, 1, environments)
    assert group.statuses() == [0, 0], group.text(0)
    assert "step 2/2" in group.text(0) and "step " not in group.text(1)
    assert "2 x cpu" in group.text(0)
