"""The start of several processes: addresses, and the single process that needs none of it."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from diffusion.config import default_config
from diffusion.distributed.initialize import Processes, initialized

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_cluster(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "TPU_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("processes", [None, Processes("nowhere:1", 1, 0)])
def test_one_process_starts_nothing(processes):
    with initialized(processes, default_config()):
        assert not jax.distributed.is_initialized()


ADDRESSES = """
from diffusion.config import default_config
from diffusion.distributed.initialize import Processes, initialized
for values in ((), ("a:1", 2), ("a", 2, 0), ("a:b", 2, 0), ("a:1", 2, 2)):
    try:
        with initialized(Processes(*values), default_config()):
            pass
    except ValueError as error:
        print(error)
"""


@pytest.mark.usefixtures("no_cluster")
def test_addresses_that_are_not_valid():
    """In a process of its own, since jax.distributed starts before jax has devices."""
    command = [sys.executable, "-c", ADDRESSES]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "coordinator_address should be defined" in out[0] and "give --coordinator=HOST:PORT" in out[0]
    assert "process id of the current process must be defined" in out[1] and "--process=I" in out[1]
    assert out[2].startswith("--coordinator=a is not HOST:PORT")
    assert out[3].startswith("--coordinator=a:b is not HOST:PORT")
    assert "process_id < num_processes" in out[4] and len(out) == 5
