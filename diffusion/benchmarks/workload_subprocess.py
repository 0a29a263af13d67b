"""One side of a comparison in a process of its own, which runs workloads on request and is idle in between.

In one process two thread pools would compete, and the peak memory of the sides could not be separated.
"""

import gc
import importlib
import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from diffusion.benchmarks.timing import Workload
from diffusion.runtime import before_jax


class WorkloadProcess:
    """A process that holds one workload at a time.

    `module` has make(request) -> Workload and memory() -> peak bytes: of the device, or of the process on a CPU. `env`
    is added to the environment before jax is imported.
    """

    def __init__(self, module: str, env: Mapping[str, str]) -> None:
        self.module, self._env = module, dict(env)
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, context, initializer=_start, initargs=(self._env,))

    def make(self, request: Mapping[str, Any]) -> Workload:
        """Makes a workload after freeing the previous one. Raises ValueError where the module cannot make it."""
        return Workload(partial(self.ask, _run), *self.ask(_make, self.module, dict(request)))

    def memory(self) -> int:
        """Peak memory in bytes."""
        return self.ask(_memory, self.module)

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """The value of a function in the process, or its exception.

        Raises ValueError if the process has ended; the next call has a new one.
        """
        try:
            return self._pool.submit(function, *args).result()
        except BrokenProcessPool as error:
            self._pool = self._new()
            raise ValueError(f"the process of {self.module} has ended; its own output is above") from error

    def close(self) -> None:
        """Ends the process."""
        self._pool.shutdown()


_current: list[Workload] = []


def _start(env: dict[str, str]) -> None:
    """Output of libraries goes to stderr, so that it does not mix with the table."""
    os.dup2(2, 1)
    os.environ.update(env)
    before_jax.configure()


def _make(module: str, request: dict[str, Any]) -> tuple[Mapping[str, Any], int]:
    _current.clear()
    gc.collect()
    _current.append(importlib.import_module(module).make(request))
    return _current[0].facts, _current[0].quantum


def _run(units: int) -> None:
    _current[0].run(units)


def _memory(module: str) -> int:
    return importlib.import_module(module).memory()
