"""From flags, or a cluster's environment, to a running jax.distributed; and from the end of one process to that of all.

    with joined(place(COORDINATOR, PROCESSES, PROCESS, limit), config, folder, limit) as leads:
        ...                                     # jax.devices() are those of all processes; process 0 leads

jax is imported inside: whoever does not come must be told before that, and `--help` does not wait for it.
"""

import atexit
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion.config.config import flatten
from diffusion.distributed.link import Link
from diffusion.distributed.place import Place
from diffusion.distributed.roll import GONE, SILENCE
from diffusion.runtime.errors import reason
from diffusion.runtime.provenance import ROOT, stamp
from diffusion.runtime.signals import Stopped

START_TIMEOUT = 300
"""Seconds within which all processes must have come, by default."""

LOCAL = frozenset({"data.dir", "data.download", "data.threads", "compilation_cache"})
"""Keys of a config that may differ from host to host: where and how data are read there."""

EXCHANGE = re.compile("gloo|nccl|nvshmem|coordination ?service", re.IGNORECASE)
"""What errors are about that come of a peer, or of the network."""

FAILED = 2
"""Exit status of what a line explains, as cli.USER_ERROR."""


@contextmanager
def joined(
    where: Place | None, config: ConfigDict, folder: Path, limit: float, newest: Callable[[], int | None]
) -> Iterator[bool]:
    """Starts jax.distributed with all processes and ends it with them; whether this process is the one that speaks.

    One process (None, or a place among one) needs nothing of it. When another process ends before its time, this one
    says so in a line, and since when the run is saved, and exits with status 75, or the other's if it ended with a
    message. Raises ValueError, in one line, where within `limit` seconds a process has not come, differs from process 0
    in config, seed, versions or revision, or does not see the same folder. `newest()`: the newest checkpoint.
    """
    if where is None or where.processes == 1:
        yield True
        return
    token = f".start-{secrets.token_hex(8)}"
    lead = where.process == 0
    with _meeting(where, limit, folder / token) if lead else nullcontext():
        link = Link((where.host, where.port), where.process, where.processes, limit)
        port = link.join(_facts(config), folder, token)
    link.watch(lambda line, status: _leave(line, status, newest))
    try:
        with _deadline(limit, f"process {where.process} of {where.processes}: {_SLOW.format(limit=limit)}", link):
            _start(where, port, limit)
        yield lead
    except BaseException as error:
        if isinstance(error, Exception) and EXCHANGE.search(str(error)):
            why = " ".join(str(error).split())[:300]
            broken = Stopped(f"the exchange between processes failed ({why}): start again to go on", GONE)
            broken.__cause__, error = error, broken
        status = _status(error)
        link.end(" ".join(str(error).split()) or type(error).__name__, status)
        # jax would wait at exit for the others, which may wait for this one
        atexit.register(_exit, status)
        raise error
    import jax

    jax.distributed.shutdown()
    link.end()
    link.close()


_SLOW = (
    "all have come, but their devices have not exchanged anything within {limit:.0f} s; is every port open between the "
    "hosts, and does NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME name the right network?"
)


def _facts(config: ConfigDict) -> dict[str, Any]:
    """What must be the same in every process."""
    facts = {f"config.{key}": value for key, value in flatten(config).items() if key not in LOCAL}
    about = stamp("")
    libraries = {f"the version of {name}": found for name, found in about["libraries"].items()}
    return {**facts, "the project's version": about["version"], "its revision": about["revision"], **libraries}


@contextmanager
def _meeting(where: Place, limit: float, token: Path) -> Iterator[None]:
    """Process 0's part of the start-up: the meeting place, and a file to be seen by all."""
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise ValueError(
            f"{token.parent} cannot be written ({reason(error)}): make it writable, make room, or give "
            "another --workdir"
        ) from error
    statement = f"from {__package__} import meeting; meeting.main({where.port}, {where.processes}, {limit!r})"
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-c", statement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "2"},
            start_new_session=True,  # Ctrl-C is not for it: it ends when those that it serves have ended
            text=True,
        )
        assert keeper.stdout is not None
        said = keeper.stdout.readline()
        if said.strip() or not said:
            why = said.strip() or "its process has ended"
            raise ValueError(
                f"port {where.port} of this host cannot be listened at ({why}): choose another --coordinator"
            )
        yield
    finally:
        token.unlink(missing_ok=True)
        with suppress(OSError):
            token.parent.rmdir()  # if there is nothing else in it, it was made for this


def _start(where: Place, port: int, limit: float) -> None:
    """Starts jax's runtime and lets all devices exchange something. Raises ValueError where they are not all there."""
    import jax
    from jax._src.lib import _jax as extension  # pyright: ignore[reportPrivateImportUsage]

    jax.config.update("jax_enable_preemption_service", False)  # training.stop listens to signals
    serve, extension.get_distributed_runtime_service = extension.get_distributed_runtime_service, _elsewhere
    try:
        jax.distributed.initialize(
            f"{where.host}:{port}",
            where.processes,
            where.process,
            local_device_ids=where.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=int(limit),
            heartbeat_timeout_seconds=2 * int(SILENCE),
            shutdown_timeout_seconds=int(SILENCE),
        )
    finally:
        extension.get_distributed_runtime_service = serve
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import multihost_utils

    from diffusion.distributed import sharding

    if jax.process_count() != where.processes:
        raise ValueError(
            f"jax counts {jax.process_count()} processes and {where.processes} have come: on a TPU pod start one on "
            "every host, and give no --processes"
        )
    present = np.ravel(multihost_utils.process_allgather(np.int32(jax.process_index())))
    # Over all devices, too, as in training: gloo gives those that have not met before half a minute to find each other.
    mesh = sharding.make_mesh()
    one = jax.make_array_from_callback((mesh.size,), sharding.split_axis(mesh), lambda index: np.ones(1, np.int32))  # noqa: ARG005
    devices = int(jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))(one))
    if present.tolist() != list(range(where.processes)) or devices != mesh.size:
        raise ValueError(
            f"the first exchange of processes {present.tolist()}, {devices} devices: a fault of the network"
        )


class _Elsewhere:
    """Stands for jax's service in process 0: it runs at the meeting place."""

    def shutdown(self) -> None:
        """It ends when the last process has left."""


def _elsewhere(*address: Any, **options: Any) -> _Elsewhere:  # noqa: ARG001
    return _Elsewhere()


@contextmanager
def _deadline(seconds: float, line: str, link: Link) -> Iterator[None]:
    """Ends the process where what is inside takes longer, hanging in C++ perhaps."""

    def over() -> None:
        threading.Thread(target=link.end, args=(line, FAILED), daemon=True).start()
        _leave(line, FAILED)

    timer = threading.Timer(seconds, over)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _leave(line: str, status: int, newest: Callable[[], int | None] | None = None) -> None:
    """Says a line and ends this process at once: the main thread waits for a device that will not answer."""
    if newest is not None and status not in (0, FAILED):
        step = newest()
        line += "; start again: it begins anew" if step is None else f"; start again: it goes on from checkpoint {step}"
    with suppress(OSError):
        os.write(2, f"\n{Path(sys.argv[0]).name}: {line}\n".encode())
    _exit(status)


def _exit(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def _status(error: BaseException) -> int:
    """The exit status that cli.run gives an error."""
    kinds: tuple[tuple[Any, Callable[[Any], int]], ...] = (
        (KeyboardInterrupt, lambda error: getattr(error, "status", 130)),
        (SystemExit, lambda error: error.code if isinstance(error.code, int) else 1),
        ((ValueError, OSError), lambda error: FAILED),  # noqa: ARG005
    )
    return next((status(error) for kind, status in kinds if isinstance(error, kind)), 1)
