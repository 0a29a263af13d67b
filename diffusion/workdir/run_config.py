"""A run's folder, and its config.json.

config.json          the resolved config and its hash; version, revisions, libraries and devices that it ran with;
                     written with the first checkpoint: a start that ended before leaves the folder to any other
metrics.jsonl        one JSON object a line: {"step": ..., "train/loss": ..., ...}; in a bucket metrics/, in parts
tensorboard/         the same scalars, and the sample grids
checkpoints/<step>/  the training state, by Orbax, with a manifest of hashes; the newest few
kept/<step>/         permanent checkpoints: every so many steps, and the best one
samples/             grids: step_<step>.png from averaged, step_<step>_raw.png from raw weights
eval/                results, each with its protocol
lock                 names the process that trains in the folder, or the last one that did; in a bucket a folder
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

import diffusion
from diffusion.config.config_dict import config_hash, differences, nested, placeless, restore, unread
from diffusion.config.keys_with_legal_values import RESUMABLE
from diffusion.data.dataset_identity import Identity, from_json
from diffusion.runtime.atomic_files import write_json
from diffusion.runtime.file_lock import exclusive
from diffusion.runtime.provenance import stamp
from diffusion.runtime.short_error_text import reason
from diffusion.workdir import verify_checkpoint_manifest as manifest

FORMAT = 2
"""The version of the layout of a run's folder."""


class Run(NamedTuple):
    """The config of a run and the shape of its data."""

    config: ConfigDict
    shape: tuple[int, int, int]
    """H, W, C of the data."""
    classes: int
    identity: Identity | None = None
    """Of the data; None in folders of older versions, and for imported weights."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by label: numbers where none are known."""
        return self.identity.classes if self.identity else tuple(map(str, range(self.classes)))

    @property
    def content(self) -> dict[str, Any]:
        """The run as JSON: in config.json, and in the manifest of every checkpoint."""
        identity = self.identity and self.identity._asdict()
        return {
            "config": nested(self.config),
            "hash": config_hash(self.config),
            "data": {"shape": list(self.shape), "classes": self.classes, "identity": identity},
            "folder": FORMAT,
        }


@contextmanager
def lock(workdir: Path, flag: str = "workdir") -> Iterator[Callable[[], None]]:
    """Makes the folder and holds it for this process alone, until the end or the process's death.

    flag: what a script names the folder by, for the advice of its errors.
    Gives a function that raises ValueError where another process has taken it, which happens in buckets alone.
    Raises ValueError naming the process that trains there, and where the folder cannot be written.
    """
    with ExitStack() as stack:
        with _writable(workdir, flag):
            advice = f"wait until it ends or stop it, or give another --{flag}"
            owned = stack.enter_context(exclusive(workdir / "lock", str(workdir), advice))
        yield owned


def exists(workdir: Path, run: Run, classifier: bool = False) -> bool:
    """Whether a folder holds this run already: a completed checkpoint claims it, intact or not, and nothing else does.

    classifier: whether the run is one of scripts/train_classifier.py. Raises ValueError where the folder holds one of
    the other kind, naming the keys that differ if it holds a run with another config, in any key that changes what is
    computed, and where that run is damaged or of a newer version.
    """
    held = manifest.newest(workdir)
    if not held:
        return False
    if (held[0].parent.name == manifest.CLASSIFIER) != classifier:
        kind = "train.py" if classifier else "train_classifier.py"
        raise ValueError(f"{workdir} holds a run of scripts/{kind}; give another --workdir")
    saved = read_run(workdir)
    free = RESUMABLE | (unread(saved.config) & unread(run.config))
    changed = [
        (key, old, new)
        for key, old, new in differences(saved.config, run.config)
        if key not in free and placeless(key, old) != placeless(key, new)
    ]
    if saved.shape != run.shape:
        changed.append(("the shape of the data", saved.shape, run.shape))
    if changed:
        keys = "; ".join(f"{key} is {old!r} in the run and {new!r} now" for key, old, new in changed)
        raise ValueError(
            f"{workdir} holds a run with another config: {keys}. Give another --workdir, or the config of that run"
        )
    return True


def write_config(workdir: Path, run: Run, devices: str) -> None:
    """Writes config.json: the run, the provenance of its start, and all revisions of the project that it ran with.

    Raises ValueError where the folder cannot be written.
    """
    path, current = workdir / "config.json", stamp(devices)
    try:
        stored = manifest.load(path) if manifest.newest(workdir) else current
    except (OSError, manifest.Damaged):
        stored = current
    first = {key: stored.get(key, current[key]) for key in current}
    revisions = stored.get("revisions", [first["revision"]])
    if revisions[-1] != current["revision"]:
        revisions = [*revisions, current["revision"]]
    with _writable(workdir):
        write_json(path, manifest.with_hash({**run.content, **first, "revisions": revisions}))


def read_run(workdir: Path) -> Run:
    """The config that a run was made with, and the shape of its data.

    Where config.json is damaged or gone, the copy in the newest checkpoint is used, and a warning says so. Raises
    ValueError where there is no run, neither can be read, or a newer version made it.
    """
    path = workdir / "config.json"
    try:
        return _parsed(workdir, manifest.load(path))
    except (FileNotFoundError, NotADirectoryError):
        wrong = "is missing"
        if not manifest.newest(workdir):
            raise ValueError(
                f"{workdir} holds no run (no config.json in it); give the --workdir of a run of scripts/train.py"
            ) from None
    except (manifest.Damaged, KeyError, TypeError) as error:
        wrong = f"is damaged ({reason(error)})"
    for checkpoint in manifest.newest(workdir):
        try:
            run = _parsed(workdir, manifest.read(checkpoint))
        except (manifest.Damaged, KeyError):
            continue
        warnings.warn(f"{path} {wrong}: the copy in {checkpoint / manifest.NAME} is used", stacklevel=2)
        return run
    raise ValueError(f"{path} {wrong}: restore it, or give another --workdir")


def _parsed(workdir: Path, saved: dict[str, Any]) -> Run:
    """A run from its JSON. Raises Damaged, KeyError or TypeError if that is incomplete, ValueError if it is newer."""
    if saved["folder"] > FORMAT:
        raise ValueError(
            f"{workdir} was made by version {saved.get('version', 'unknown')} of this project, whose folders this "
            f"version ({diffusion.__version__}) cannot read: update it, or give another --workdir"
        )
    try:
        height, width, channels = saved["data"]["shape"]
    except ValueError as error:
        raise manifest.Damaged(f"the shape of its data is {saved['data']['shape']}") from error
    identity = from_json(saved["data"].get("identity"))
    return Run(restore(saved["config"]), (height, width, channels), saved["data"]["classes"], identity)


@contextmanager
def _writable(workdir: Path, flag: str = "workdir") -> Iterator[None]:
    """Turns an error of the system into what to do about it."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{workdir} cannot be written ({reason(error)}): make it writable, make room, or give another --{flag}"
        ) from error
