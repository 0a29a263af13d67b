"""The program of an experiment for a target, compiled in a process of its own that is ended once the text is written.

Code generation for TPUs takes many minutes after the optimised program is known, and XLA aborts a process on a flag
that it does not know: so a child compiles, XLA dumps the optimised text and the buffer assignment into a folder, and
the parent waits for these two files. The child builds what scripts/train.py builds, with shapes in place of data.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from diffusion.config.config_dict import restore
from diffusion.planning import hlo, targets
from diffusion.planning.targets import Target
from diffusion.runtime import before_jax

ROOT = Path(__file__).resolve().parents[2]
SCALE = {"M": 2.0**20, "G": 2.0**30, "T": 2.0**40}
OUT_OF_MEMORY = re.compile(r"Used ([\d.]+)([MGT]) of ([\d.]+)([MGT])")
"""What XLA's TPU compiler says of a program that does not fit."""
REFUSED = re.compile(r"^[\w.]+(?:Error|Exception): (.+)|(Unknown flag.+)", re.MULTILINE)
"""The line of a child's output that says what is wrong: of a Python error, or of XLA, which aborts on a flag."""
POLL = 0.5
"""Seconds between two checks of the child process."""


class Data(NamedTuple):
    """A data set by its shapes."""

    shape: tuple[int, int, int]
    size: int
    classes: int
    on_device: bool


class Job(NamedTuple):
    """What to compile."""

    config: Mapping[str, Any]
    """Flat, as config_dict.flatten returns it."""
    data: Data
    target: str
    what: str
    """A key of PROGRAMS."""


class Compiled(NamedTuple):
    """An optimised program."""

    program: hlo.Program
    memory: hlo.Memory


COMPILERS = {targets.TPU: ("libtpu",), targets.GPU: ("jax_cuda12_plugin", "jax_cuda13_plugin"), targets.CPU: ("jax",)}
"""platform -> modules, one of which brings its compiler."""


def require_compiler(target: Target) -> None:
    """Raises ValueError where the compiler for a target is not installed."""
    if not any(find_spec(module) for module in COMPILERS[target.platform]):
        raise ValueError(
            f"--target={target.name}: its compiler is missing; pip install -r requirements-plan.txt (no TPU or GPU is "
            "needed)"
        )


def compile_in_child(job: Job, limit: float, tick: Callable[[float], None]) -> Compiled:
    """The program of a job. `tick` receives the seconds so far, twice a second.

    Raises ValueError with one line where a library is missing, the compiler refuses the job, or `limit` seconds pass.
    """
    target = targets.parse(job.target)
    require_compiler(target)
    with TemporaryDirectory() as folder:
        dump, request = Path(folder) / "dump", Path(folder) / "job.json"
        request.write_text(json.dumps(job))
        output = Path(folder) / "output"
        with output.open("w") as stream:
            code = f"from diffusion.planning.compile_for_target import main; main({str(request)!r})"
            child = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, env=environment(target, dump), stdout=stream, stderr=stream
            )
        try:
            return _wait(job, child, dump, output, limit, tick)
        finally:
            child.kill()
            child.wait()


def environment(target: Target, dump: Path) -> dict[str, str]:
    """The child's environment: no real device but the CPU, no cache, and XLA's dumps of the one module."""
    flags = [*os.environ.get("XLA_FLAGS", "").split(), f"--xla_dump_to={dump}", f"--xla_dump_hlo_module_re={MODULE}"]
    if target.platform == targets.CPU:
        flags.append(f"--xla_force_host_platform_device_count={target.count}")
    alone = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return {**os.environ, "JAX_PLATFORMS": "cpu", **alone, "XLA_FLAGS": " ".join(flags)}


MODULE = "jit_run"
"""XLA's name of the program: both the training step and the sampler are a jitted `run`."""
TEXT, BUFFERS = "after_optimizations.txt", "after_optimizations-buffer-assignment.txt"


def _wait(
    job: Job, child: subprocess.Popen[bytes], dump: Path, output: Path, limit: float, tick: Callable[[float], None]
) -> Compiled:
    start, sizes = time.monotonic(), ()
    while True:
        status, seconds = child.poll(), time.monotonic() - start
        files = [next(iter(sorted(dump.glob(f"*{MODULE}*{name}"))), None) for name in (TEXT, BUFFERS)]
        now = tuple(file.stat().st_size if file else 0 for file in files)
        if status is not None or (all(now) and now == sizes):
            break
        if seconds > limit:
            raise ValueError(f"--target={job.target}: not compiled within {limit:.0f} s; raise --timeout")
        sizes = now
        tick(seconds)
        time.sleep(POLL)
    text = output.read_text(errors="replace")
    if status and not all(now):
        return _refused(job, dump, text)
    program, buffers = (file.read_text() for file in files if file)
    return Compiled(hlo.parse(program), hlo.memory(buffers))


def _refused(job: Job, dump: Path, output: str) -> Compiled:
    """The program that a TPU's memory cannot hold, as it was before its buffers; else a ValueError."""
    before = sorted(dump.glob(f"*{MODULE}*after_optimizations_before_buffer_assignment.txt"))
    if before and (used := OUT_OF_MEMORY.search(output)):
        program, total = hlo.parse(before[0].read_text()), int(float(used[1]) * SCALE[used[2]])
        entry = program.computations[program.entry].values()
        arguments = sum(s.bytes for i in entry if i.opcode == "parameter" for s in i.shapes)
        return Compiled(program, hlo.Memory(arguments, total - arguments))
    said = ["".join(groups) for groups in REFUSED.findall(output)] or output.strip().splitlines() or ["no word"]
    raise ValueError(f"--target={job.target}: refused: {said[-1][:300]}")


def main(path: str) -> None:
    """The child: compiles the job in a file."""
    raw = json.loads(Path(path).read_text())
    job = Job(*raw)._replace(data=Data(*raw[1]))
    before_jax.configure("off")
    target = targets.parse(job.target)
    config, data = restore(job.config), job.data._replace(shape=tuple(job.data.shape))

    from diffusion.distributed import sharding
    from diffusion.experiment import build

    mesh = sharding.make_mesh(targets.devices(target))
    experiment = build.experiment(config, data.shape, data.classes, mesh)
    PROGRAMS[job.what](experiment, data)


def _train(experiment: Any, data: Data) -> None:
    from diffusion.training import batch_feed, loop

    size, like = experiment.config.train.batch_size, experiment.fresh().like
    inputs = batch_feed.shapes(data.shape, data.size, size, experiment.mesh, data.on_device)
    update = experiment.update()
    loop.compile_steps(experiment.task(), update, inputs.feed, update.store(like), inputs.batch)


def _sample(experiment: Any, data: Data) -> None:  # noqa: ARG001
    import jax
    import jax.numpy as jnp

    from diffusion.sampling.sampling_loop import image_keys

    index = jnp.arange(experiment.batch(experiment.config.sample.batch_size))
    experiment.sampler().compile(experiment.fresh().like.ema, jax.eval_shape(lambda: image_keys(0, index)), index)


PROGRAMS: dict[str, Callable[[Any, Data], None]] = {"train": _train, "sample": _sample}
"""What can be compiled: a training step, or the sampler's whole chain for sample.batch_size images."""
