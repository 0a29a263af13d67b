"""Files of weights of the Inception network of FID: the published file, converted ones, and the cache."""

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from diffusion.convert import torch_file
from diffusion.convert.inception_weights import NETWORK, fingerprint, from_torch, partial
from diffusion.convert.name_mapping import Tensors, first
from diffusion.data.download import DownloadError, Remote, fetch
from diffusion.nets.inception import shapes
from diffusion.runtime import npz_reader
from diffusion.runtime.atomic_files import atomic_path
from diffusion.runtime.paths import cache_folder

PUBLISHED = {
    "pt_inception-2015-12-05-6726825d.pth": Remote(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        95_628_359,
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
}
"""The PyTorch port of the TensorFlow graph of 2015-12-05, with its size and SHA-256."""

ORIGINS = frozenset(remote.sha256 for remote in PUBLISHED.values())
CONVERTED = f"{NETWORK}.safetensors"
ZIP, PICKLE, SAFETENSORS = b"PK\x03\x04", b"\x80", b"\0\0\0\0{"
"""First bytes of a file; in safetensors after the four low bytes of a length."""


def load(path: Path | None = None, cache: Path | None = None) -> tuple[Tensors, str]:
    """The weights in a file, and the name that metrics quote for them.

    Without a file those in the folder `cache`: converted, as published, or else downloaded. Weights of a published file
    are stored as CONVERTED in the cache, which is read in a fraction of the time.

    The name is `NETWORK` for the published file, recognised by its SHA-256, and for a file that `save` wrote of it,
    which records that SHA-256 beside the fingerprint of its arrays; for others "inception-" and eight digits of the
    fingerprint, since their distances are not comparable with published ones. The record is the file's own statement,
    not a proof. Raises ValueError, in one line, for a file that `read` refuses, and where there is none and the
    download fails: the message names what to fetch and where to put it.
    """
    folder = cache or cache_folder("inception")
    if path is None:
        with suppress(OSError, ValueError):
            weights = read(folder / CONVERTED)
            return weights, _name(weights, folder / CONVERTED)
        path = next((folder / name for name in PUBLISHED if (folder / name).is_file()), None)
    supplied = path is not None
    path = path or _download(folder)
    weights = read(path)
    name = _name(weights, path)
    if (origin := _sha256(path)) in ORIGINS:
        try:
            save(folder / CONVERTED, weights, origin)
            if not supplied:
                path.unlink()
        except OSError as error:
            warnings.warn(f"the Inception weights could not be stored in {folder} ({error})", stacklevel=2)
    return weights, name


def read(path: Path) -> Tensors:
    """Weights from a published file, one written by `save`, or an .npz of NAME/w and NAME/b; recognised by its content.

    The last two may lack weights; every other name and shape must be that of the network. Raises ValueError, in one
    line, for a file that is broken or holds another network (what does not match is listed, nothing is loaded), or that
    has a published file's name and another SHA-256.
    """
    if not path.is_file():
        raise ValueError(f"no Inception weights at {path}: there is no such file")
    if path.name in PUBLISHED and (digest := _sha256(path)) != PUBLISHED[path.name].sha256:
        raise ValueError(f"{path} has SHA-256 {digest}, not {PUBLISHED[path.name].sha256}: it is not the official file")
    with path.open("rb") as file:
        start = file.read(9)
    if start[4:] == SAFETENSORS:
        return _from_safetensors(path)
    if not start.startswith((ZIP, PICKLE)):
        raise ValueError(f"{path} is no file of Inception weights: give one of {', '.join(PUBLISHED)}, or an .npz")
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if all(name.endswith(".npy") for name in archive.namelist()):
            return _from_npz(path)
    return from_torch(torch_file.read(path), path)


def save(path: Path, weights: Mapping[str, np.ndarray], origin: str = "") -> None:
    """Writes safetensors whose metadata are the fingerprint and the origin, the SHA-256 of the file converted.

    The file appears whole or not at all.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(values, np.float32) for name, values in weights.items()}
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, {"sha256": fingerprint(weights), "origin": origin})


def _from_npz(path: Path) -> Tensors:
    """Pickled entries are refused by NumPy; entries larger than their weights are not even read."""
    expected = {name: 8 * int(np.prod(shape)) + 4096 for name, shape in shapes().items()}
    with npz_reader.one_line(f"{path} holds no Inception weights"), zipfile.ZipFile(path) as archive:
        members = npz_reader.members(archive)
        odd = [name for name, info in members.items() if npz_reader.size(archive, info) > expected.get(name, 0)]
        if odd:
            raise ValueError(f"{first(odd)} {'is' if len(odd) == 1 else 'are'} unknown or too large")
        arrays = {name: npz_reader.load(archive, info) for name, info in members.items()}
    return partial(path, arrays)


def _from_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            written = (file.metadata() or {}).get("sha256")
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is a broken safetensors file: {' '.join(str(error).split())[:300]}") from None
    weights = partial(path, arrays)
    if written is not None and written != fingerprint(weights):
        raise ValueError(f"{path} is damaged: its weights are not those that were written")
    return weights


def _name(weights: Tensors, path: Path) -> str:
    """The network's name: by the file that those in `path` were converted from, else by that file itself."""
    from safetensors import SafetensorError, safe_open

    origin = ""
    with suppress(SafetensorError, ValueError, TypeError), safe_open(path, "numpy") as file:
        origin = (file.metadata() or {}).get("origin", "")
    return NETWORK if (origin or _sha256(path)) in ORIGINS else f"inception-{fingerprint(weights)[:8]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(folder: Path) -> Path:
    """The published file, downloaded."""
    ((name, remote),) = PUBLISHED.items()
    try:
        return fetch(remote, folder / name)
    except DownloadError as error:
        reason = str(error).removeprefix(f"{remote.url} ")
        raise ValueError(
            f"no Inception weights: fetch {remote.url} and put the file into {folder} (it {reason})"
        ) from error
