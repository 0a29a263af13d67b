"""The start of several processes: addresses, comparison, and the single process that needs none of it."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from diffusion.config import default_config
from diffusion.distributed.initialize import Processes, differing, initialized

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_cluster(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "TPU_")):
            monkeypatch.delenv(name)


def facts(host, **more):
    return {"host": host, "seed": 0, **more}


def test_the_process_that_differs_is_named():
    assert differing([facts("a"), facts("b")]) == ""
    assert differing([facts("a"), facts("b"), facts("c", seed=2)]).startswith(
        "process 2 (c) differs from process 0 (a): seed is 2 instead of 0"
    )
    assert "new is None instead of 1" in differing([facts("a", new=1), facts("b")])


@pytest.mark.parametrize("processes", [None, Processes("nowhere:1", 1, 0)])
def test_one_process_starts_nothing(tmp_path, processes):
    with initialized(processes, default_config(), tmp_path / "run"):
        assert not jax.distributed.is_initialized() and not (tmp_path / "run").exists()


ADDRESSES = """
import sys
from pathlib import Path
from diffusion.config import default_config
from diffusion.distributed.initialize import Processes, initialized
for values in ((), ("a:1", 2), ("a", 2, 0), ("a:b", 2, 0), ("a:1", 2, 2)):
    try:
        with initialized(Processes(*values), default_config(), Path(sys.argv[1])):
            pass
    except ValueError as error:
        print(error)
"""


LATE = """
import sys, time
from pathlib import Path
from diffusion.distributed.initialize import Processes, _time_limit
with _time_limit(Processes("a:1", eval(sys.argv[2]), eval(sys.argv[3]), timeout=1), Path(sys.argv[1]) / ".start"):
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("count", "process", "line"),
    [
        (3, 1, "process 0, 2 has not started within 1 s (3 processes)"),
        (3, None, "the processes have not connected within 1 s (3 processes)"),
        (None, None, "the processes have not connected within 1 s"),
    ],
)
def test_processes_are_named_only_where_each_has_its_number(tmp_path, count, process, line):
    command = [sys.executable, "-c", LATE, str(tmp_path / "run"), repr(count), repr(process)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"-c: {line}; docs/several_hosts.md has the causes\n")


@pytest.mark.usefixtures("no_cluster")
def test_addresses_that_are_not_valid(tmp_path):
    """In a process of its own, since jax.distributed starts before jax has devices."""
    command = [sys.executable, "-c", ADDRESSES, str(tmp_path / "run")]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "coordinator_address should be defined" in out[0] and "give --coordinator=HOST:PORT" in out[0]
    assert "process id of the current process must be defined" in out[1] and "--process=I" in out[1]
    assert out[2].startswith("--coordinator=a is not HOST:PORT")
    assert out[3].startswith("--coordinator=a:b is not HOST:PORT")
    assert "process_id < num_processes" in out[4] and len(out) == 5
    assert not (tmp_path / "run").exists()
