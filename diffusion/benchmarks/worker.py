"""One side of a comparison in a process of its own. It makes workloads, runs them on request, and is idle in between.

Requests and answers are JSON, one object a line, on the standard streams: {"make": {...}} is answered with facts,
{"run": n} with seconds, {"memory": true} with bytes; an error with {"error": line}. In one process two thread pools
would compete, and the peak memory of the sides could not be separated.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SIDES = {"jax": "diffusion.benchmarks.jax_workloads", "baseline": "diffusion.benchmarks.torch_baseline.workloads"}


class Workload(NamedTuple):
    """A repeatable piece of work."""

    run: Callable[[int], None]
    """Does this many units of work; returns when the device is done."""
    facts: dict[str, Any]
    """Facts for the table, as JSON."""
    quantum: int = 1
    """`run` takes multiples of this number."""


class Remote:
    """A workload in a worker process."""

    def __init__(self, worker: "Worker", facts: dict[str, Any], quantum: int) -> None:
        self._worker, self.facts, self.quantum = worker, facts, quantum

    def run(self, units: int) -> float:
        """Does this many units of work; returns the seconds that they took."""
        return float(self._worker.ask({"run": units})["seconds"])


class Worker:
    """The worker process, as its parent sees it."""

    def __init__(self, side: str, env: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-c", f"from diffusion.benchmarks.worker import main; main({side!r})"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self.side = side
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
        )

    def make(self, request: Mapping[str, Any]) -> Remote:
        """Makes a workload and frees the previous one. Raises ValueError where the side cannot make it."""
        made = self.ask({"make": dict(request)})
        return Remote(self, made["facts"], made["quantum"])

    def memory(self) -> int:
        """Peak memory in bytes: of the device, or of the process where the device is the CPU."""
        return int(self.ask({"memory": True})["bytes"])

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the answer. Raises ValueError with the worker's error, or if it has died."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write((json.dumps(message) + "\n").encode())
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            status = self._process.wait()
            raise ValueError(
                f"the process that measures {self.side} ended with status {status}; its own output is above"
            )
        answer = json.loads(line)
        if error := answer.get("error"):
            raise ValueError(error)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


def answer(side: Any, held: list[Workload], message: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request. `held` contains the current workload."""

    def make(request: Mapping[str, Any]) -> dict[str, Any]:
        held.clear()
        gc.collect()
        held.append(side.make(request))
        return {"facts": held[0].facts, "quantum": held[0].quantum}

    def run(units: int) -> dict[str, Any]:
        start = time.perf_counter()
        held[0].run(units)
        return {"seconds": time.perf_counter() - start}

    replies = {"make": make, "run": run, "memory": lambda _: {"bytes": side.memory()}}
    (verb, argument) = next(iter(message.items()))
    try:
        return replies[verb](argument)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        if int(os.environ.get("DIFFUSION_TRACEBACK", "0")):
            raise
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}


def main(name: str) -> None:
    """Answers requests until the input is closed. Output of libraries goes to stderr."""
    from diffusion.runtime import setup

    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    setup.configure()
    side, held = importlib.import_module(SIDES[name]), []
    for line in sys.stdin:
        print(json.dumps(answer(side, held, json.loads(line))), file=out, flush=True)
