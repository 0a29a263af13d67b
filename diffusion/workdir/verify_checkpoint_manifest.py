"""The manifest of a checkpoint: its files with their sizes and SHA-256, written after all of them.

    {"format": 1, "step": 500, ..., "files": {"default/manifest.ocdbt": [119, "9f86d0..."], ...}, "sha256": "..."}

A folder whose files differ from its manifest is damaged. One without a manifest is unfinished in a bucket, and damaged
on a disk, where a step gets its name after its manifest. The manifest's last entry is its own hash. Imports nothing
heavy, so that checkpoints can be listed and verified without jax.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from diffusion.runtime.atomic_files import read_json, write_json
from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.short_error_text import reason

NAME = "manifest.json"
FORMAT = 1
HASH = "sha256"
PLAIN_KEYS = "plain_keys"
"""The entry that says that random keys are stored as their data, as `global_arrays.whole` gives them."""
DAMAGED = "damaged"
"""The folder, in one of checkpoints, of the steps that were moved aside."""
FOLDERS = ROLLING, PERMANENT, CLASSIFIER = "checkpoints", "kept", "classifier"
"""The folders of checkpoints in a run's folder."""


class Damaged(ValueError):
    """Why a folder, or a JSON object with a hash, does not hold what was written; in a few words."""


def with_hash(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its own hash as last entry: SHA-256 of its canonical text without that entry."""
    return {**content, HASH: _digest(content)}


def load(path: Path) -> dict[str, Any]:
    """The content of a JSON file written `with_hash`. Raises OSError, and Damaged where it does not match its hash."""
    try:
        content = read_json(path)
    except ValueError as error:
        raise Damaged(reason(error)) from error
    if not isinstance(content, dict) or HASH not in content:
        raise Damaged("its hash is missing")
    rest = {key: value for key, value in content.items() if key != HASH}
    if content[HASH] != _digest(rest):
        raise Damaged("its content is not what was written")
    return rest


def write(folder: Path, content: dict[str, Any]) -> None:
    """Hashes every file in the sub-folders of a folder and writes the manifest. Raises OSError."""
    paths = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): [path.stat().st_size, hash_file(path)] for path in paths}
    write_json(folder / NAME, with_hash({"format": FORMAT, **content, "files": files}), indent=None, fsync=True)


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises Damaged where there is none, or it is damaged or of another format."""
    try:
        content = load(folder / NAME)
    except FileNotFoundError as error:
        raise Damaged(f"it was not finished (no {NAME} in it)") from error
    except (OSError, Damaged) as error:
        raise Damaged(f"its {NAME} is damaged ({reason(error)})") from error
    if content.get("format") != FORMAT:
        raise Damaged(f"its {NAME} has the format {content.get('format')}, not {FORMAT}")
    return content


def fault(folder: Path) -> str:
    """Why a folder is unfinished or damaged, in one line; empty if every file matches the manifest. Reads all of it."""
    try:
        for name, (size, digest) in read(folder)["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if hash_file(path) != digest:
                return f"{name} has other bytes than were written"
    except Damaged as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read ({reason(error)})"
    return ""


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(folder: Path, step: int, arrays: dict[str, list[Any]]) -> dict[str, Any]:
    """The manifest of a step, all of whose files match it, if it holds a state of these arrays, {path: [dtype, shape]}.

    Raises Damaged, with the first file or array that differs.
    """
    if wrong := fault(folder):
        raise Damaged(wrong)
    content = read(folder)
    if content["step"] != step:
        raise Damaged(f"it is step {content['step']} under another name")
    stored = content["arrays"]
    for name in sorted(stored.keys() | arrays.keys()):
        if stored.get(name) != arrays.get(name):
            kinds = (f"{kind[0]} {kind[1]}" if kind else "absent" for kind in (stored.get(name), arrays.get(name)))
            raise Damaged("it holds another state: {} is {} in it instead of {}".format(name, *kinds))
    return content


def set_aside(path: Path) -> None:
    """Moves a damaged step to damaged/<step>, or to damaged/<step>.1, .2, ... where that exists.

    In a bucket, what a save that was not finished has sent of a step is deleted.
    """
    if isinstance(path, Bucket) and not (path / NAME).exists():
        path.remove()
        return
    aside = path.parent / DAMAGED
    aside.mkdir(exist_ok=True)
    names = (f"{path.name}.{i}" if i else path.name for i in range(10**6))
    path.rename(next(aside / name for name in names if not (aside / name).exists()))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def steps(folder: Path) -> list[int]:
    """Every step of a folder of checkpoints, intact or not, ascending.

    On a disk a step has its name after its manifest, so one without has lost it and is damaged. In a bucket one without
    is not complete and does not count.
    """
    if isinstance(folder, Bucket):
        names = [path.parent.name for path in folder.glob(f"*/{NAME}")]
    else:
        names = [path.name for path in folder.glob("*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def newest(workdir: Path) -> list[Path]:
    """The folders of all checkpoints of a run, intact or not, by step, the newest first."""
    stored = [(step, workdir / name / str(step)) for name in FOLDERS for step in steps(workdir / name)]
    return [path for _, path in sorted(stored, key=lambda pair: -pair[0])]
