"""A run's folder: what config it belongs to, and with what it was made.

config.json          the resolved config, its hash, the project's version and revision, library versions, devices
metrics.jsonl        one JSON object a line: {"step": ..., "train/loss": ..., ...}
tensorboard/         the same scalars, and the sample grids
checkpoints/<step>/  the training state, by Orbax
samples/             grids: step_<step>.png from averaged, step_<step>_raw.png from raw weights
eval/                results, each stamped with its protocol
"""

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import diffusion
from diffusion.config import config_hash, differences, flatten, restore
from diffusion.keys import RESUMABLE

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
ROOT = Path(__file__).resolve().parents[1]


class Run(NamedTuple):
    """What a run's folder tells without its data set or its checkpoints."""

    config: ConfigDict
    shape: tuple[int, int, int]
    """H, W, C of the data."""
    classes: int


def open_run(workdir: Path, run: Run, devices: str) -> bool:
    """Makes the folder or takes up the run in it; returns whether there was one.

    Raises ValueError naming the keys that differ if the folder belongs to another config, in any key that changes what
    is computed.
    """
    path = workdir / "config.json"
    known = path.exists()
    if known:
        saved = read_run(workdir)
        changed = [d for d in differences(saved.config, run.config) if d[0] not in RESUMABLE]
        if saved.shape != run.shape:
            changed.append(("the shape of the data", saved.shape, run.shape))
        if changed:
            keys = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in changed)
            raise ValueError(
                f"{workdir} holds a run with another config: {keys}. Give another --workdir, or the config of that run"
            )
    elif workdir.exists() and (workdir / "checkpoints").exists():
        raise ValueError(
            f"{workdir} holds checkpoints but no config.json: restore that file, or give another --workdir"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    data = {"shape": run.shape, "classes": run.classes}
    write_json(path, {"config": nested(run.config), "hash": config_hash(run.config), "data": data, **stamp(devices)})
    return known


def read_run(workdir: Path) -> Run:
    """The config that a run was made with, and the shape of its data.

    Raises ValueError where there is no run, or its file is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise ValueError(
            f"{workdir} holds no run (no config.json in it); give the --workdir of a run of scripts/train.py"
        )
    try:
        saved = json.loads(path.read_text())
        height, width, channels = saved["data"]["shape"]
        classes, config = saved["data"]["classes"], saved["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or give another --workdir") from error
    return Run(restore(config), (height, width, channels), classes)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file at once: a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)


def stamp(devices: str) -> dict[str, Any]:
    """With what a result was made: project version and revision, library versions, devices."""
    return {
        "version": diffusion.__version__,
        "revision": revision(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "devices": devices,
    }


def revision() -> str:
    """The git revision of the project, with "+" where files were changed since; "unknown" outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def nested(config: ConfigDict) -> dict[str, Any]:
    """A config as plain dictionaries, sections within."""
    result: dict[str, Any] = {}
    for key, value in flatten(config).items():
        section, _, name = key.rpartition(".")
        (result.setdefault(section, {}) if section else result)[name] = value
    return result


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
