"""A process's place among the processes of a run, from flags or a cluster's environment."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

BY_HAND = "give --coordinator=HOST:PORT --processes=N --process=I, with I from 0 to N - 1"


class Place(NamedTuple):
    """A process's place among the processes of a run."""

    host: str
    port: int
    """Where process 0 is, and where it is met."""
    processes: int
    process: int
    devices: Sequence[int] | None = None
    """The local devices that this process has: one, where a launcher has started several on its host; None: all."""


def place(coordinator: str | None, processes: int | None, process: int | None, limit: float) -> Place:
    """The place that flags give; what they leave out is the cluster's (SLURM, Open MPI, Kubernetes, TPU pods).

    Raises ValueError where it is not known, or is none.
    """
    devices: Sequence[int] | None = None
    if None in (coordinator, processes, process):
        from jax._src.clusters import ClusterEnv

        try:
            found = ClusterEnv.auto_detect_unset_distributed_params(
                coordinator, processes, process, None, None, int(limit)
            )
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise ValueError(f"--distributed: the cluster's environment cannot be read ({why}); {BY_HAND}") from error
        coordinator, processes, process, devices = found
        devices = None if _alone_on_host() else devices
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    if lacking := [name for name, value in given.items() if value is None]:
        raise ValueError(
            f"--distributed: no cluster (SLURM, Open MPI, Kubernetes, TPU pod) says {' and '.join(lacking)}; {BY_HAND}"
        )
    assert coordinator is not None and processes is not None and process is not None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--coordinator={coordinator} is not HOST:PORT, such as 10.0.0.1:8476")
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(f"--process={process} is not one of 0 to {processes - 1} (--processes={processes})")
    return Place(host.strip("[]"), int(port), processes, process, devices)


def _alone_on_host() -> bool:
    """Whether SLURM or Open MPI started one process a host, for all of its devices: jax would take the first alone."""
    for name in ("SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        counts = re.findall(r"\d+", re.sub(r"\(x\d+\)", "", os.environ.get(name, "")))  # such as 2(x3),1
        if counts and all(int(count) == 1 for count in counts):
            return True
    return False
