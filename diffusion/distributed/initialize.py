"""Several processes as one run: the start, the comparison of what they run, and the end.

    with initialized(Processes("10.0.0.1:8476", count=4, process=2), config, folder):
        ...                                     # jax.devices() are those of all processes

jax.distributed does the work. This file adds the line that names a process which has not started or runs something
else, and an exit that does not wait for the others. jax is imported inside the functions, so that `--help` is fast.
"""

import atexit
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten
from diffusion.runtime.provenance import stamp
from diffusion.runtime.signals import STOPPED, Stopped

LOCAL_KEYS = frozenset({"data.dir", "data.download", "data.threads", "compilation_cache"})
"""Keys of the config that may differ between hosts."""

HEARTBEAT_SECONDS = 60
"""A process that jax has not heard from for so long counts as dead, and jax aborts the others."""

COLLECTIVE_ERROR = re.compile("gloo|nccl|nvshmem|coordination ?service", re.IGNORECASE)
"""Matches what a collective raises when a peer or the network is gone."""


class Processes(NamedTuple):
    """Which of how many processes this is. jax asks the cluster (SLURM, Open MPI, TPU pods, ...) for what is None."""

    coordinator: str | None = None
    """HOST:PORT at which process 0 listens."""
    count: int | None = None
    process: int | None = None
    timeout: int = 300
    """Seconds within which all processes must have started."""


@contextmanager
def initialized(processes: Processes | None, config: ConfigDict, folder: Path) -> Iterator[None]:
    """Runs jax.distributed around its body; does nothing for a single process (None or count 1).

    Raises ValueError where the address is not valid, no cluster is found, a process differs from process 0 in config,
    versions or revision, or does not see process 0's folder. Exits with status 2 where a process has not started within
    the time-out. An error of a collective becomes Stopped (status 75): another process or the network is gone.
    """
    if processes is None or processes.count == 1:
        yield
        return
    import jax

    with _time_limit(processes, folder / ".start") as mark:
        _initialize(processes)
        _sum_over_devices()
        first = mark.with_name(_gathered({"mark": mark.name})[0]["mark"])
        if line := differing(_gathered(_facts(config, first))):
            jax.distributed.shutdown()
            raise ValueError(line)
    try:
        yield
    except Stopped as error:
        if error.alone:
            atexit.register(_exit, error.status)
        else:
            jax.distributed.shutdown()  # all processes stop at the same step
        raise
    except BaseException as error:
        what = " ".join(str(error).split())[:300]
        if isinstance(error, Exception) and COLLECTIVE_ERROR.search(what):
            atexit.register(_exit, STOPPED)
            what = f"another process or the network failed ({what}): start all again to resume"
            raise Stopped(what, STOPPED) from error
        atexit.register(_exit, 2 if isinstance(error, ValueError | OSError | MemoryError) else 1)
        raise
    jax.distributed.shutdown()


def differing(facts: Sequence[Mapping[str, Any]]) -> str:
    """One line that names the first process whose facts differ from those of process 0, and the fact; else ""."""
    for process, own in enumerate(facts):
        for name in sorted((own.keys() | facts[0].keys()) - {"host"}):
            if own.get(name) != facts[0].get(name):
                return (
                    f"process {process} ({own['host']}) differs from process 0 ({facts[0]['host']}): {name} is "
                    f"{own.get(name)!r} instead of {facts[0].get(name)!r}; start all with one command and "
                    "installation"
                )
    return ""


def _initialize(processes: Processes) -> None:
    import jax

    address, count, process, timeout = processes
    if address is not None and not re.fullmatch(r".+:\d{1,5}", address):
        raise ValueError(f"--coordinator={address} is not HOST:PORT, such as 10.0.0.1:8476")
    jax.config.update("jax_enable_preemption_service", False)  # runtime.signals handles SIGTERM
    try:
        jax.distributed.initialize(
            address,
            count,
            process,
            cluster_detection_method=None if None in processes else "deactivate",
            initialization_timeout=timeout + HEARTBEAT_SECONDS,  # _time_limit ends sooner, with the names
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:300]
        raise ValueError(
            f"jax.distributed cannot start ({what}); outside a cluster give --coordinator=HOST:PORT --processes=N "
            "--process=I, with I from 0 to N - 1"
        ) from error


@contextmanager
def _time_limit(processes: Processes, folder: Path) -> Iterator[Path]:
    """Ends this process with status 2 and one line where its body outlasts the time-out.

    jax's own time-out aborts and names nobody. So each process has a file in a folder of the run while it starts, under
    its number where that is a flag; the line names the numbers without one. Older files are of a start that failed.
    """
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / (f"{socket.gethostname()}.{os.getpid()}" if processes.process is None else str(processes.process))
    mark.touch()

    def remove(*folders: Path) -> None:
        mark.unlink(missing_ok=True)
        with suppress(OSError):  # where another file is in them
            for each in folders:
                each.rmdir()

    def end() -> None:
        present = {file.name for file in folder.iterdir() if file.stat().st_mtime > started - processes.timeout}
        numbered = processes.count if processes.process is not None else None
        absent = [str(i) for i in range(numbered or 0) if str(i) not in present]
        who = f"process {', '.join(absent)} has not started" if absent else "the processes have not connected"
        several = f" ({processes.count} processes)" if processes.count else ""
        line = f"{who} within {processes.timeout} s{several}; docs/several_hosts.md has the causes"
        os.write(2, f"{Path(sys.argv[0]).name}: {line}\n".encode())
        os._exit(2)

    timer = threading.Timer(processes.timeout, end)
    timer.daemon = True
    timer.start()
    try:
        yield mark
    except BaseException:
        remove(folder, folder.parent)
        raise
    else:
        remove(folder)
    finally:
        timer.cancel()


def _facts(config: ConfigDict, first: Path) -> dict[str, Any]:
    """What must be the same in every process. `first`: a file of process 0 in the run's folder."""
    deadline = time.monotonic() + 10  # network file systems show a new file late
    while not (visible := first.exists()) and time.monotonic() < deadline:
        time.sleep(0.2)
    about = stamp("")
    return {
        "host": socket.gethostname(),
        "--workdir on a file system shared with process 0": visible,
        "the project's version": about["version"],
        "its revision": about["revision"],
        **{f"the version of {name}": version for name, version in about["libraries"].items()},
        **{f"config.{key}": value for key, value in flatten(config).items() if key not in LOCAL_KEYS},
    }


def _gathered(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts of every process, exchanged as JSON that is padded to one length."""
    from diffusion.distributed import hosts

    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    longest = int(hosts.all_gather(np.int32(text.size)).max())
    padded = np.pad(text, (0, longest - text.size), constant_values=ord(" "))
    return [json.loads(row.tobytes()) for row in hosts.all_gather(padded)]


def _sum_over_devices() -> None:
    """Connects all devices as training does. gloo allows 30 s for it, and hosts compile for different times later."""
    import jax
    import jax.numpy as jnp

    from diffusion.distributed import hosts, sharding

    mesh = sharding.make_mesh()
    ones = hosts.put(np.ones(mesh.size, np.int32), sharding.split_axis(mesh))
    jax.block_until_ready(jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))(ones))


def _exit(status: int) -> None:
    """Ends the process without jax's barrier at exit, which waits for processes that may wait for this one.

    Process 0 hosts jax's service and ends later than the others, which abort without it.
    """
    import jax

    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    time.sleep(5 if jax.process_index() == 0 else 0)
    os._exit(status)
