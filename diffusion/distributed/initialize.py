"""Several processes as one run, over jax.distributed: the start, the comparison of what they run, and the end.

    with initialized(Processes("10.0.0.1:8476", count=4, process=2), config):
        ...                                     # jax.devices() are those of all processes

When a process does not start or dies, jax's own time-out and heartbeats end the others. jax is imported inside the
functions, so that `--help` is fast.
"""

import atexit
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten
from diffusion.runtime.provenance import stamp
from diffusion.runtime.signals import STOPPED, Stop, Stopped

LOCAL_KEYS = frozenset({"data.dir", "data.download", "data.threads", "compilation_cache"})
"""Keys of the config that may differ between hosts."""

COLLECTIVE_ERROR = re.compile("gloo|nccl|nvshmem|coordination ?service", re.IGNORECASE)
"""Matches what a collective raises when a peer or the network is gone."""


class Processes(NamedTuple):
    """Which of how many processes this is. jax asks the cluster (SLURM, Open MPI, TPU pods, ...) for what is None."""

    coordinator: str | None = None
    """HOST:PORT at which process 0 listens."""
    count: int | None = None
    process: int | None = None
    timeout: int = 300
    """Seconds within which all processes must have started; jax aborts those that have."""


@contextmanager
def initialized(processes: Processes | None, config: ConfigDict) -> Iterator[None]:
    """Runs jax.distributed around its body; does nothing for a single process (None or count 1).

    Raises ValueError where the address is not valid, no cluster is found, or a process differs from process 0 in
    config, versions or revision. A process that ends by an error or a signal of its own does not wait for the others.
    An error of a collective becomes Stopped (status 75): another process or the network is gone.
    """
    if processes is None or processes.count == 1:
        yield
        return
    _initialize(processes)
    import jax

    from diffusion.distributed.agreement_between_processes import require_same

    try:
        Stop().agreed(wait=True)  # connects all devices: gloo allows 30 s, and hosts compile for different times
        require_same(stamp(devices=""))
        require_same({f"config.{key}": value for key, value in flatten(config).items() if key not in LOCAL_KEYS})
        yield
    except Stopped as error:
        if error.alone:
            atexit.register(_exit, error.status)
        else:
            jax.distributed.shutdown()  # all processes stop at the same step
        raise
    except Exception as error:
        if COLLECTIVE_ERROR.search(what := " ".join(str(error).split())[:300]):
            atexit.register(_exit, STOPPED)
            raise Stopped(
                f"another process or the network failed ({what}): start all again to resume", STOPPED
            ) from error
        atexit.register(_exit, 2 if isinstance(error, ValueError | OSError | MemoryError) else 1)
        raise
    jax.distributed.shutdown()


def _initialize(processes: Processes) -> None:
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # runtime.signals handles SIGTERM
    address, count, process, timeout = processes
    if address is not None and not re.fullmatch(r".+:\d{1,5}", address):  # jax may crash
        raise ValueError(f"--coordinator={address} is not HOST:PORT, such as 10.0.0.1:8476")
    method = None if None in processes else "deactivate"
    try:
        jax.distributed.initialize(
            address, count, process, cluster_detection_method=method, initialization_timeout=timeout
        )
    except (ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:300]
        raise ValueError(
            f"jax.distributed cannot start ({what}); outside a cluster give --coordinator=HOST:PORT --processes=N "
            "--process=I, with I from 0 to N - 1"
        ) from error


def _exit(status: int) -> None:
    """Ends the process without jax's barrier at exit, which waits for processes that may wait for this one.

    Process 0 hosts jax's service and ends later than the others, which abort without it.
    """
    import jax

    with suppress(OSError):
        sys.stderr.flush()
    time.sleep(5 if jax.process_index() == 0 else 0)
    os._exit(status)
