"""Random damage to a run's folder: what is read afterwards is the newest intact step, bit for bit, or one line.

python tests/stress/corrupt.py --cases=200 --seed=0
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.config import default_config
from diffusion.workdir.jsonl_and_tensorboard_writer import Writer
from diffusion.workdir.kept_and_resumed_checkpoints import RunCheckpoints
from diffusion.workdir.run_config import Run, read_run, write_config

ROLLING, KEPT = (10, 20, 30), (15,)


class State(NamedTuple):
    """What a small training state consists of."""

    step: jax.Array
    params: dict[str, jax.Array]
    key: jax.Array


def state_of(step: int) -> State:
    """A state that no other step has."""
    values = np.random.default_rng(step).normal(size=(40, 50)).astype(np.float32)
    return State(
        jnp.int32(step), {"kernel": jnp.array(values), "bias": jnp.full(7, step, jnp.float32)}, jax.random.key(step)
    )


def bits(state: State) -> list[bytes]:
    """The state, to the last bit."""
    plain = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(plain)]


def build(folder: Path) -> None:
    """A run's folder: config, checkpoints of both streams, metrics, a grid."""
    run = Run(default_config(), (8, 8, 1), 10)
    write_config(folder, run, "1 x cpu")
    with closing(RunCheckpoints(folder, 3, about=run.content)) as streams:
        for step in ROLLING:
            streams.rolling.save(step, state_of(step), {"window": [{"['loss']": ["float32", [1.0 / step, 1.0]]}]})
        for step in KEPT:
            streams.permanent.save(step, state_of(step), {"every": True})
    with closing(Writer(folder, 0)) as writer:
        for step in (10, 20, 30):
            writer.scalars(step, {"train/loss": 1.0 / step})
        writer.grid(30, "step_0000030", np.zeros((8, 8, 1), np.uint8))


def damage(folder: Path, draw: random.Random) -> list[str]:
    """Flips bits of some files, cuts or removes them, or removes a step; what was done, a line each."""
    done = []
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    newest = [path for path in paths if f"checkpoints/{max(ROLLING)}/" in path.as_posix()]
    told = [path for path in paths if path.name in ("manifest.json", "config.json")]
    for _ in range(draw.choice((1, 1, 2, 4))):
        path = draw.choice(draw.choices((paths, newest, told), (4, 4, 2))[0])
        if not path.exists() or any(line.endswith(f" {path.relative_to(folder)}") for line in done):
            continue
        size = path.stat().st_size
        kind = draw.choice(("flip", "flip", "cut", "remove", "step"))
        inside = path.relative_to(folder).parts
        if kind == "step" and inside[0] in ("checkpoints", "kept"):
            shutil.rmtree(folder / inside[0] / inside[1])
        elif kind == "cut" and size:
            with path.open("r+b") as file:
                file.truncate(draw.randrange(size))
        elif kind == "flip" and size:
            content = bytearray(path.read_bytes())
            for place in {draw.randrange(size) for _ in range(draw.choice((1, 1, 8)))}:
                content[place] ^= 1 << draw.randrange(8)
            path.write_bytes(content)
        else:
            path.unlink()
        done.append(f"{kind} {path.relative_to(folder)}")
    return done


def intact(done: list[str]) -> list[int]:
    """The steps that can be restored, ascending. Orbax's own files at the top of a step are not needed for that."""
    unneeded = re.compile(r"\w+ \w+/\d+/(_CHECKPOINT_METADATA|commit_success.txt)")
    harmful = [line for line in done if line.startswith("step ") or not unneeded.fullmatch(line)]
    hit = {tuple(line.split()[1].split("/")[:2]) for line in harmful}
    whole = [("checkpoints", step) for step in ROLLING] + [("kept", step) for step in KEPT]
    return sorted(step for stream, step in whole if (stream, str(step)) not in hit)


def check(folder: Path, done: list[str]) -> str:
    """Reads a damaged folder as a run does; how that ended. Raises AssertionError where it is not as promised."""
    said: list[str] = []
    wanted = intact(done)
    outcome = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run = read_run(folder)
            assert run == Run(default_config(), (8, 8, 1), 10), f"{done}: another config was read"
        except ValueError as error:
            assert not wanted, f"{done}: the config was lost though step {wanted} has a copy: {error}"
            assert "\n" not in str(error)
            outcome.append("config refused")
        files = Counter(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        with closing(RunCheckpoints(folder)) as streams:
            try:
                state = streams.resume(state_of(0), said.append)
            except ValueError as error:
                assert not wanted, f"{done}: {wanted} are intact, but {error}"
                assert "\n" not in str(error) and "holds no intact checkpoint" in str(error)
                return ", ".join([*outcome, "no checkpoint left"])
        assert files == Counter(path.relative_to(folder).as_posix() for path in folder.rglob("*")), "reading changed it"
        if state is None:
            assert not wanted and not any((folder / name).exists() for name in ("checkpoints/10", "kept/15")), done
            return ", ".join([*outcome, "nothing left"])
        step = int(state.step)
        assert step == max(wanted), f"{done}: step {step} was read and {max(wanted)} is the newest intact one"
        assert bits(state) == bits(state_of(step)), f"{done}: step {step} was read otherwise than it was written"
        assert all("\n" not in line for line in said)
        with closing(Writer(folder, step)):
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert all(line["step"] <= step for line in lines)
    return ", ".join([*outcome, f"step {step}, {len(said)} skipped"])


def run(cases: int, seed: int) -> Counter[str]:
    """That many folders, each damaged once; how they ended."""
    draw = random.Random(seed)
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good"
        build(good)
        for case in range(cases):
            folder = Path(place) / "run"
            shutil.copytree(good, folder)
            done = damage(folder, draw)
            ends[check(folder, done)] += 1
            shutil.rmtree(folder)
            if sys.stderr.isatty():
                print(f"\r{case + 1}/{cases}", end="", file=sys.stderr)
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for end, count in sorted(run(args.cases, args.seed).items()):
        print(f"{count:5}  {end}")
    print(f"{args.cases:5}  folders damaged, all as promised")


if __name__ == "__main__":
    main()
