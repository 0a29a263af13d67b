"""A run's folder: what config it belongs to, and with what it was made.

config.json          the resolved config, its hash, the project's version and revision, library versions, devices
metrics.jsonl        one JSON object a line: {"step": ..., "train/loss": ..., ...}
tensorboard/         the same scalars, and the sample grids
checkpoints/<step>/  the training state, by Orbax, with a manifest of hashes; the newest few
kept/<step>/         the same, for good: every so many steps, and the best one
samples/             grids: step_<step>.png from averaged, step_<step>_raw.png from raw weights
eval/                results, each stamped with its protocol
lock                 the process that trains in the folder, or was the last to
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import diffusion
from diffusion.config.config import config_hash, differences, flatten, restore, unread
from diffusion.config.schema import RESUMABLE
from diffusion.runtime.errors import reason
from diffusion.runtime.files import write_json
from diffusion.runtime.lock import exclusive
from diffusion.runtime.provenance import stamp
from diffusion.workdir import manifest

FORMAT = 2
"""Of a run's folder. 1: checkpoints without manifests."""


class Run(NamedTuple):
    """What a run's folder tells without its data set or its checkpoints."""

    config: ConfigDict
    shape: tuple[int, int, int]
    """H, W, C of the data."""
    classes: int
    format: int = FORMAT

    @property
    def sealed(self) -> bool:
        """Whether a checkpoint without a manifest is one that was not finished."""
        return self.format > 1

    @property
    def content(self) -> dict[str, Any]:
        """What config.json says of it, and every checkpoint's manifest too."""
        return {
            "config": nested(self.config),
            "hash": config_hash(self.config),
            "data": {"shape": list(self.shape), "classes": self.classes},
            "folder": self.format,
        }


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it for this process alone, until the end or the process's death.

    Raises ValueError naming the process that trains there, and where the folder cannot be written.
    """
    with ExitStack() as stack:
        with _writable(workdir):
            advice = "wait until it ends or stop it, or give another --workdir"
            stack.enter_context(exclusive(workdir / "lock", str(workdir), advice))
        yield


def open_run(workdir: Path, run: Run, devices: str) -> bool:
    """Makes the folder or takes up the run in it; returns whether there was one.

    Raises ValueError naming the keys that differ if the folder belongs to another config, in any key that changes what
    is computed, and where it is damaged, of a newer version, or cannot be written.
    """
    path = workdir / "config.json"
    known = path.exists() or (workdir / "checkpoints").exists()
    if known:
        saved = read_run(workdir)
        run = run._replace(format=saved.format)
        free = RESUMABLE | (unread(saved.config) & unread(run.config))
        changed = [d for d in differences(saved.config, run.config) if d[0] not in free]
        if saved.shape != run.shape:
            changed.append(("the shape of the data", saved.shape, run.shape))
        if changed:
            keys = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, there, here in changed)
            raise ValueError(
                f"{workdir} holds a run with another config: {keys}. Give another --workdir, or the config of that run"
            )
    with _writable(workdir):
        write_json(path, manifest.sealed({**run.content, **stamp(devices)}))
    return known


def read_run(workdir: Path) -> Run:
    """The config that a run was made with, and the shape of its data.

    Where config.json is damaged or gone, the copy in the newest checkpoint is used, and a warning says so. Raises
    ValueError where there is no run, neither can be read, or a newer version made it.
    """
    path = workdir / "config.json"
    try:
        return _parsed(workdir, json.loads(path.read_bytes()))
    except FileNotFoundError:
        wrong = "is not there"
        if not (workdir / "checkpoints").exists():
            raise ValueError(
                f"{workdir} holds no run (no config.json in it); give the --workdir of a run of scripts/train.py"
            ) from None
    except (manifest.Damaged, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError) as error:
        wrong = f"is damaged ({reason(error)})"
    for copy in sorted(workdir.glob(f"*/*/{manifest.NAME}"), key=_step, reverse=True):
        try:
            run = _parsed(workdir, manifest.read(copy.parent), sealed=False)
        except (manifest.Damaged, KeyError):
            continue
        warnings.warn(f"{path} {wrong}: the copy in {copy} is used", stacklevel=2)
        return run
    raise ValueError(f"{path} {wrong}: restore it, or give another --workdir")


def _parsed(workdir: Path, saved: Any, sealed: bool = True) -> Run:
    """A run from what was saved of it. Raises Damaged, KeyError or TypeError where it is not whole."""
    if not isinstance(saved, dict):
        raise manifest.Damaged("it is no JSON object")
    if sealed and {"folder", manifest.HASH} & saved.keys():
        saved = manifest.opened(saved)
    found = saved.get("folder", 1)
    if found > FORMAT:
        raise ValueError(
            f"{workdir} was made by version {saved.get('version', 'unknown')} of this project, whose folders this "
            f"version ({diffusion.__version__}) does not know: update it, or give another --workdir"
        )
    try:
        height, width, channels = saved["data"]["shape"]
    except ValueError as error:
        raise manifest.Damaged(f"the shape of its data is {saved['data']['shape']}") from error
    return Run(restore(saved["config"]), (height, width, channels), saved["data"]["classes"], found)


def _step(path: Path) -> int:
    """The step of a manifest; -1 for one that was moved aside."""
    name = path.parent.name
    return int(name) if name.isascii() and name.isdigit() else -1


@contextmanager
def _writable(workdir: Path) -> Iterator[None]:
    """Turns an error of the system into what to do about it."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{workdir} cannot be written ({reason(error)}): make it writable, make room, or give another --workdir"
        ) from error


def nested(config: ConfigDict) -> dict[str, Any]:
    """A config as plain dictionaries, sections within."""
    result: dict[str, Any] = {}
    for key, value in flatten(config).items():
        section, _, name = key.rpartition(".")
        (result.setdefault(section, {}) if section else result)[name] = value
    return result
