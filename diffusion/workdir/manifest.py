"""What makes a folder of files trustworthy: a list of them with their sizes and SHA-256, written last.

    {"format": 1, "step": 500, ..., "files": {"default/manifest.ocdbt": [119, "9f86d0..."], ...}, "sha256": "..."}

A folder without its manifest was not finished; one whose files differ from it is damaged; the manifest itself is
covered by its own last entry. Imports nothing heavy, so that checkpoints can be listed and checked without jax.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from diffusion.runtime.errors import reason
from diffusion.runtime.files import write_json

NAME = "manifest.json"
FORMAT = 1
HASH = "sha256"
UNFINISHED = "it was not finished"
CHUNK = 2**22


class Damaged(ValueError):
    """Why a folder, or a file that carries its own hash, cannot be trusted; in a few words."""


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its own hash as last entry: SHA-256 of its canonical text without that entry."""
    return {**content, HASH: _digest(content)}


def opened(content: Any) -> dict[str, Any]:
    """What was sealed. Raises Damaged where the content is not what its hash says."""
    if not isinstance(content, dict) or HASH not in content:
        raise Damaged("its hash is missing")
    rest = {key: value for key, value in content.items() if key != HASH}
    if content[HASH] != _digest(rest):
        raise Damaged("its content is not what was written")
    return rest


def write(folder: Path, content: dict[str, Any]) -> None:
    """Seals a folder: hashes every file in it and writes the manifest, at once and last. Raises OSError."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent / path.name != folder / NAME)
    files = {path.relative_to(folder).as_posix(): [path.stat().st_size, hash_file(path)] for path in paths}
    write_json(folder / NAME, sealed({"format": FORMAT, **content, "files": files}), indent=None, fsync=True)


def finished(folder: Path) -> bool:
    """Whether a folder has a manifest, whatever it is worth."""
    return (folder / NAME).is_file()


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises Damaged where there is none, or it cannot be trusted."""
    path = folder / NAME
    if not path.is_file():
        raise Damaged(f"{UNFINISHED} (no {NAME} in it)")
    try:
        content = opened(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"its {NAME} is damaged ({reason(error)})") from error
    if content.get("format") != FORMAT:
        raise Damaged(f"its {NAME} has the format {content.get('format')}, this version knows {FORMAT}")
    return content


def fault(folder: Path) -> str:
    """What is wrong with a folder, in one line; empty if every file is what its manifest says. Reads all of it."""
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
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def newest(folder: Path) -> int | None:
    """The newest finished checkpoint in a run's folder, whatever it is worth."""
    names = [path.parent.name for path in folder.glob(f"*/*/{NAME}")]
    return max((int(name) for name in names if name.isascii() and name.isdigit()), default=None)
