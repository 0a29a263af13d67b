"""Work behind the training loop that leaves it the processors.

Where steps are computed on the same processors that write checkpoints, a write that has its equal share of them slows
the steps beside it: by two on two cores. At the lowest priority it takes what the steps leave.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import jax

Tree = TypeVar("Tree")

LOWEST = 19
"""The number of the lowest priority that Linux knows; the default is 0."""
SHARED = ("cpu",)
"""Platforms whose steps are computed on the processors of the host."""

_WRITING = threading.Lock()


def shares_processors(state: object) -> bool:
    """Whether the arrays of a state live where the host's own work is done, and all of them in this process.

    With several processes, a save begins with all of them at the same step, in the thread that makes the steps.
    """
    if jax.process_count() > 1:
        return False
    return all(device.platform in SHARED for x in jax.tree.leaves(state) for device in x.devices())


def copied(state: Tree) -> Tree:
    """A copy, which stays when the step donates the state; by no program that would have to be compiled."""
    return jax.device_put(state, jax.tree.map(lambda x: x.sharding, state), may_alias=False)


def make_folder_in(folder: Path) -> None:
    """Makes sure that a folder is there and that others can be made in it. Raises OSError.

    Where that fails within Orbax, threads of it are left behind that keep the process from ending for five minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe"):
        pass


def remove(folder: Path) -> None:
    """Removes a folder that a write that has failed may still be putting files into; gives up after two seconds."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def patiently(write: Callable[[], Any], finish: Callable[[], Any]) -> None:
    """Begins and finishes a write at the lowest priority, in the calling thread, which keeps it.

    One at a time: Orbax counts what it has begun for the whole process, and takes two beginnings for one.
    """
    stand_back()
    with _WRITING:
        write()
        finish()


def stand_back() -> None:
    """Gives the calling thread, and those that it starts from now on, the lowest priority.

    On Linux, where priority belongs to a thread; elsewhere, and where it is not allowed, nothing happens. There is no
    way back for a process without rights.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
