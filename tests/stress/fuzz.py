"""Random overrides of the config and broken data files: each ends in one line, or it runs. Never a traceback.

    python tests/stress/fuzz.py --configs=500 --data=121 --runs=24 --seed=0

All goes through main of scripts/train.py and command_line.run, in one process. A config that passes validation runs for
real, to the end, if it is as small as the base is and `--runs` are not spent; else its data are read, its first batch
is drawn, and its training step and its sampler are traced for the shapes that they would be compiled for
(jax.eval_shape). Some commands name the folder of a finished run: a refused one must not have changed it. Data that can
be read are run for real once for each shape and traced after that. A case that takes longer than --limit seconds ends
the script with a traceback of where it hung.
"""

import argparse
import contextlib
import faulthandler
import importlib.util
import io
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from absl import flags

from diffusion.data.download import DownloadError
from diffusion.runtime import before_jax, command_line
from tests.stress import broken_data, overrides

ROOT = Path(__file__).resolve().parents[2]
RAN, TRACED, REFUSED, ENDED = "ran to the end", "traced", "refused in one line", "begun, ended in one line"
FAULT = "NOT AS PROMISED"
INTERRUPTED = (75, 130, 143)
CHEAP = {
    "train.steps": 8,
    "train.batch_size": 32,
    "train.accumulate": 4,
    "diffusion.T": 50,
    "net.channels": 16,
    "net.blocks": 1,
    "sample.n": 4,
    "eval.n": 4,
    "eval.quick_n": 4,
    "eval.noise_scale_batches": 8,
    "data.threads": 64,
}
"""Up to these values a config is run for real."""


class End(NamedTuple):
    """How a command ended."""

    status: Any
    said: list[str]
    fault: str
    """The traceback, where there was one."""


class Fuzz:
    """Commands of scripts/train.py, one after the other, and how they end."""

    def __init__(self, place: Path, runs: int, limit: float):
        from diffusion.commands import train
        from diffusion.data import cifar10

        spec = importlib.util.spec_from_file_location("train", ROOT / "scripts" / "train.py")
        assert spec and spec.loader
        self.train: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.train)
        self.train.report = lambda line: print(line, file=sys.stderr)
        self.place, self.limit = place, limit
        self._left, self._count, self._real = runs, 0, train.run
        self._shapes: set[Any] | None = None
        self._how = ""
        self.faults, self.last = 0, ""
        train.run = self._run
        cifar10.fetch = offline

    def command(self, given: list[str]) -> End:
        """Runs one command line of the script."""
        said = io.StringIO()
        before, folder = dict(os.environ), os.getcwd()
        for name in flags.FLAGS:
            flags.FLAGS[name].unparse()
        faulthandler.dump_traceback_later(self.limit, exit=True)
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), warnings.catch_warnings():
                command_line.run(self.train.main, [sys.argv[0], *given])
        except SystemExit as end:
            status, fault = end.code or 0, ""
        except BaseException:
            status, fault = None, traceback.format_exc()
        finally:
            faulthandler.cancel_dump_traceback_later()
            os.environ.clear()
            os.environ.update(before)
            os.chdir(folder)
        if status in INTERRUPTED:
            raise KeyboardInterrupt  # what the script made of a signal is meant for this one
        return End(status, said.getvalue().splitlines(), fault)

    def check(self, given: list[str], watched: list[Path]) -> str:
        """How a command ends, in words. Raises AssertionError where it is not as promised.

        watched: what it must not touch; and the folder of a finished run, if it names one.
        """
        self._how = ""
        before = [snapshot(path) for path in watched]
        end = self.command(given)
        self.last = end.said[-1] if end.said else ""
        text = "\n".join([" ".join(map(repr, given)), *end.said[-12:], end.fault])
        assert not end.fault and "Traceback" not in "\n".join(end.said), text
        assert end.status in (0, 2), text
        lines = [line for line in end.said if line.startswith(f"{Path(sys.argv[0]).name}: ")]
        begun = any(line.startswith("folder      ") for line in end.said)
        if end.status == 0:
            assert not lines and self._how, text
        else:
            assert lines == end.said[-1:] and len(lines[0]) < 6000, text
            rest = [line for line in end.said[:-1] if not line.startswith("WARNING ")]
            assert begun or not rest, text
        for path, then in zip(watched, before, strict=True):
            assert (begun and path.name == "run") or snapshot(path) == then, f"{path} was changed by\n{text}"
        self._count += 1
        if self._count % 20 == 0:
            import jax

            jax.clear_caches()
        return self._how if end.status == 0 else ENDED if begun else REFUSED

    def tried(self, given: list[str], watched: list[Path]) -> str:
        """The same; what is not as promised is put down among the faults."""
        try:
            return self.check(given, watched)
        except AssertionError as fault:
            self.fault(str(fault))
            return FAULT

    def fault(self, text: str) -> None:
        """Puts down, and says at once, what is not as promised."""
        self.faults += 1
        print(f"{FAULT}: {text}\n", flush=True)

    def once_a_shape(self) -> None:
        """From now on what can be run is run once for each shape of data, and traced after that."""
        self._shapes = set()

    def _run(self, config: Any, *how: Any) -> Any:
        """In place of commands.train.run: that itself, or as much of it as can be had without compiling."""
        from diffusion.config.config_dict import flatten

        flat = flatten(config)
        small = all(flat[key] <= most for key, most in CHEAP.items()) and len(flat["net.multipliers"]) < 3
        small = small and max(flat["net.multipliers"]) < 3 and flat["net.channels"] * flat["net.blocks"] <= 16
        if self._shapes is not None:
            return self._trace(config, *how)
        if small and self._left > 0:
            self._left -= 1
            self._how = RAN
            return self._real(config, *how)
        return self._trace(config, *how)

    def _trace(self, config: Any, *how: Any) -> Any:
        import jax
        import jax.numpy as jnp
        import numpy as np

        from diffusion.config.validation import doubts, remarks, validate
        from diffusion.distributed.sharding import make_mesh
        from diffusion.experiment import build
        from diffusion.sampling.sampling_loop import image_keys
        from diffusion.training.step import train_steps

        source, held_out = build.sources(config)
        validate(config, size=source.shape[0])
        if self._shapes is not None and source.shape not in self._shapes:
            self._shapes.add(source.shape)
            self._how = RAN
            return self._real(config, *how)
        self._how = TRACED
        ours = build.experiment(config, source.shape, source.classes, make_mesh())
        feed = ours.feed(source)
        state = ours.fresh().like
        with contextlib.closing(feed.batches(0)) as stream:
            batch = feed.stack([next(stream)])
        step = lambda s, d, b: train_steps(ours.task(), ours.update(), feed.gather, s, d, b)  # noqa: E731
        after, metrics = jax.eval_shape(step, state, feed.data, batch)
        assert jax.tree.structure(after) == jax.tree.structure(state) and metrics["loss"]
        keys, labels = image_keys(0, jnp.arange(2)), jnp.zeros(2, jnp.int32)
        drawn = jax.eval_shape(lambda params: ours.sampler()(params, keys, labels).x_0, state.params)
        assert drawn.shape == (2, *source.shape)
        held_out.read(np.arange(1))
        doubts(config)
        remarks(config)
        return None


def offline(*_: Any, **__: Any) -> None:
    """In place of a download."""
    raise DownloadError("this is a test, which loads nothing from elsewhere")


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder, but for the lock."""
    found = [path for path in sorted(folder.rglob("*")) if path.name != "lock"]
    stats = [(path, path.lstat()) for path in found]
    return {str(path): (stat.st_size, stat.st_mtime_ns if not path.is_dir() else 0) for path, stat in stats}


def configs(fuzz: Fuzz, cases: int, draw: random.Random) -> Counter[str]:
    """That many random command lines; how they ended."""
    ends: Counter[str] = Counter()
    finished = fuzz.place / "finished"
    ends["the untouched base: " + fuzz.check([*overrides.BASE, f"--workdir={finished}"], [])] += 1
    for case in range(cases):
        folder = fuzz.place / f"config_{case}" / "run"
        there = draw.random() < 0.25
        if there:
            shutil.copytree(finished, folder)
        given = [*overrides.BASE, f"--workdir={folder}", *overrides.some(draw, case)]
        ends[fuzz.tried(given, [finished, folder])] += 1
        shutil.rmtree(folder.parent, ignore_errors=True)
        tell(case, cases, "configs")
    return ends


def data(fuzz: Fuzz, cases: int, draw: random.Random) -> Counter[str]:
    """That many data sets, nearly all of them broken; how training on them ended."""
    ends: Counter[str] = Counter()
    fuzz.once_a_shape()
    chosen = broken_data.CASES if cases >= len(broken_data.CASES) else draw.sample(broken_data.CASES, cases)
    for number, case in enumerate(chosen):
        folder = fuzz.place / f"data_{number}"
        (folder / "data").mkdir(parents=True)
        given = case.build(folder / "data", draw)
        end = fuzz.tried([*overrides.BASE, f"--workdir={folder / 'run'}", *given], [folder / "data"])
        if case.usable is not None and case.usable != (end in (RAN, TRACED)) and end != FAULT:
            fuzz.fault(f"{case.name}: {end} ({fuzz.last})")
        ends[end] += 1
        shutil.rmtree(folder)
        tell(number, len(chosen), "data")
    return ends


def tell(case: int, cases: int, what: str) -> None:
    """Progress, on a terminal."""
    if sys.__stderr__ and sys.__stderr__.isatty():
        print(f"\r{what} {case + 1}/{cases} ", end="", file=sys.__stderr__, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=500)
    parser.add_argument("--data", type=int, default=len(broken_data.CASES))
    parser.add_argument("--runs", type=int, default=24, help="configs that are run to the end; others are traced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one case may take")
    parser.add_argument("--memory", type=int, default=12, help="gigabytes of address space")
    args = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    resource.setrlimit(resource.RLIMIT_AS, (args.memory * 2**30, resource.RLIM_INFINITY))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    before_jax.configure()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.environ.update(TFDS_DATA_DIR=f"{place}/tfds", XDG_CACHE_HOME=f"{place}/cache")
        (Path(place) / "here").mkdir()
        os.chdir(Path(place) / "here")
        fuzz = Fuzz(Path(place), args.runs + 1, args.limit)
        found = {"configs": configs(fuzz, args.configs, random.Random(args.seed))}
        found["data"] = data(fuzz, args.data, random.Random(args.seed))
        os.chdir(ROOT)
    for what, ends in found.items():
        for end, count in sorted(ends.items()):
            print(f"{count:5}  {what}  {end}")
    if fuzz.faults:
        sys.exit(f"{fuzz.faults} are not as promised")
    print(f"all as promised, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
