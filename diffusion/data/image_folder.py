"""Any folder of images (docs/data.md): which of them are trained on, which are held out, and their classes."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.data.dataset_identity import by_number
from diffusion.data.dataset_interface import HOLD_OUT, Source, Splits, load, require_enough
from diffusion.data.image_decoder import decode
from diffusion.data.list_image_files import ENDINGS, Files, listing, look, remarks
from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.paths import expanded

TRAIN = ("train", "training")
HELD_OUT = ("test", "testing", "val", "valid", "validation")
"""Names of the folders that are a split, in any case; the first of them that exists is held out."""
FEW = 10
"""Fewer held-out images than this are remarked on."""
SAMPLE = 64
"""Images in which equal channels are looked for, where not all are in memory."""


class Parts(NamedTuple):
    """The images of a folder and where they belong."""

    files: list[str]
    is_train: np.ndarray
    """bool [n]."""
    labels: np.ndarray
    """int32 [n]."""
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def folder(
    path: str | os.PathLike, size: int = 0, crop: int = 0, channels: int = 0, background: str = "white"
) -> Splits:
    """All images under `path`, in the order of a hash of their paths, so that the first n are of all classes.

    Split: if `path` has folders of names in TRAIN and HELD_OUT, these are the splits; else a hash of its path holds out
    about one image in 20, whatever other images there are. Labels: if every image lies in exactly one level of
    sub-folders, and there are at least two, their names are the classes, numbers sorted as numbers; else there are
    none. channels: 1 or 3; 0 is 1 if all images are grey, else 3. size: 0 demands that all images have one size, square
    or not; otherwise they are cropped and resized to [size, size], from a central square of `crop` pixels unless that
    is 0. `image_decoder.decode` has the rest.

    Headers are read first, once, those of both splits, so that both have one shape. Sets of more than 256 MiB of
    pixels are decoded as they are read. Raises ValueError that names the offending file, here or (truncated files)
    when it is read.
    """
    root = expanded(path) if str(path) else Path()
    if not str(path) or not root.is_dir():
        raise ValueError(
            f"{str(path)!r}: no such folder of images; if it has moved, say where: --config.data.name=folder:PATH"
        )
    name = f"folder:{path}"
    files, skipped = listing(root)
    parts = _parts(root, files)
    if not parts.files:
        raise ValueError(f"{root}: no image with the ending {', '.join(ENDINGS)} in this folder or below it")
    known = look(root, parts.files)
    grey = channels == 1 or (channels == 0 and all(seen.grey for seen in known.headers))
    height, width = (size, size) if size else _one_size(root, parts.files, known)
    shape = (height, width, 1 if grey else 3)
    notes = (*skipped, *parts.notes, *remarks(known.headers, background))

    def split(train: bool) -> Source:
        if parts.is_train.all():
            require_enough(name, len(parts.files), train)
        chosen = np.flatnonzero(parts.is_train == train)
        chosen = chosen[np.argsort(path_hashes([parts.files[i] for i in chosen]))]
        paths, labels = [str(root / parts.files[i]) for i in chosen], parts.labels[chosen]

        def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pixels = np.empty((len(index), *shape), np.uint8)
            for row, i in enumerate(index):
                pixels[row] = decode(known.near(paths[i]), paths[i], grey, size, crop, background)
            return pixels, labels[index]

        about = [[*shape, crop, background], *([parts.files[i], known.digests[i]] for i in chosen)]
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        source = Source(name, len(paths), shape, len(parts.classes), read, None, parts.classes, digest, known.of)
        source = load(source)
        return source._replace(notes=(*notes, *(_equal_channels(source) if train and not channels else ())))

    return split


def is_held_out(files: Sequence[str]) -> np.ndarray:
    """bool [n]: about one file in 20, chosen by a hash of its path alone; at least that with the smallest hash.

    A file held out remains so whatever is added (only where it was chosen for being the smallest, it may change).
    """
    numbers = path_hashes(files)
    chosen = numbers < np.uint64(2**64 // HOLD_OUT)
    if not chosen.any():
        chosen[numbers.argmin()] = True
    return chosen


def path_hashes(files: Sequence[str]) -> np.ndarray:
    """uint64 [n]: for each path a number that depends on it alone."""
    hashes = [hashlib.sha256(os.fsencode(file)).digest()[:8] for file in files]
    return np.array([int.from_bytes(digest, "big") for digest in hashes], np.uint64)


def _parts(root: Path, files: list[str]) -> Parts:
    """Where each image belongs. Raises ValueError where one of the folders of a split is empty or is there twice."""
    if isinstance(root, Bucket):
        folders = sorted({parts[0] for parts in (file.split("/") for file in files) if len(parts) > 1})
    else:
        folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    train, held_out = (_named(root, folders, names) for names in (TRAIN, HELD_OUT))
    if not (train and held_out):
        labels, classes, notes = _labels(files)
        chosen = np.full(len(files), True) if len(files) < HOLD_OUT else ~is_held_out(files)
        if train or held_out:
            other = HELD_OUT[0] if train else TRAIN[0]
            notes = (*notes, f"{(train or held_out)[0]}/ is no split, since there is no folder {other}/ beside it")
        if 0 < (few := np.count_nonzero(~chosen)) < FEW:
            notes = (
                *notes,
                f"only {few} held out, so few that their bits/dim are a guess; a folder test/ can have more",
            )
        return Parts(files, chosen, labels, classes, notes)
    inside = [file for file in files if file.startswith((f"{train[0]}/", f"{held_out[0]}/"))]
    is_train = np.array([file.startswith(f"{train[0]}/") for file in inside], bool)
    for chosen, split in ((is_train, train[0]), (~is_train, held_out[0])):
        if not chosen.any():
            raise ValueError(f"{root / split}: no image with the ending {', '.join(ENDINGS)} in this folder")
    labels, classes, notes = _labels([file.partition("/")[2] for file in inside])
    untrained = [name for i, name in enumerate(classes) if not (labels[is_train] == i).any()]
    if untrained:
        notes = (*notes, f"no training image of class {', '.join(untrained)}")
    if outside := sorted(set(files) - set(inside)):
        where = f"{train[0]}/ and {held_out[0]}/"
        notes = (*notes, f"left out {len(outside):,} of {len(files):,} images outside {where}, such as {outside[0]}")
    return Parts(inside, is_train, labels, classes, notes)


def _named(root: Path, folders: list[str], names: Sequence[str]) -> list[str]:
    """The folder of the first of some names, in any case; empty if there is none. Raises ValueError for two."""
    found = [[folder for folder in folders if folder.lower() == name] for name in names]
    chosen = next(filter(None, found), [])
    if len(chosen) > 1:
        raise ValueError(f"{root}: has the folders {' and '.join(chosen)}; rename or join them")
    return chosen


def _labels(files: list[str]) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Labels by sub-folder, the names of the classes, and a note where sub-folders do not tell classes apart."""
    parents = [os.path.dirname(file) for file in files]
    names = sorted(set(parents), key=by_number)
    none = np.zeros(len(files), np.int32)
    if len(names) < 2:
        return none, (), ()
    if deep := [file for file in files if file.count("/") > 1]:
        return none, (), (f"no classes, since folders lie in folders: {deep[0]}",)
    if stray := [file for file in files if not os.path.dirname(file)]:
        beside = ", ".join([name for name in names if name][:3])
        few = f"{len(stray):,} {'images lie' if len(stray) > 1 else 'image lies'}"
        return none, (), (f"no classes, since {few} beside the folders ({beside}, ...): {stray[0]}",)
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[parent] for parent in parents], np.int32), tuple(names), ()


def _one_size(root: Path, files: list[str], known: Files) -> tuple[int, int]:
    """(height, width) of all images, or ValueError that names the first one that differs from the first image."""
    height, width = known.headers[0][:2]
    for file, seen in zip(files, known.headers, strict=True):
        if (seen.height, seen.width) != (height, width):
            raise ValueError(
                f"{root / file}: {seen.width}x{seen.height} pixels where {root / files[0]} has {width}x{height}; "
                "make them one size, or set a size (--config.data.size) to which all are cropped and resized"
            )
    return height, width


def _equal_channels(source: Source) -> tuple[str, ...]:
    """A note where images of three channels are grey, as far as is seen."""
    if source.shape[2] == 1:
        return ()
    few = np.unique(np.linspace(0, source.size - 1, SAMPLE).astype(np.int64))
    pixels = (source.arrays or source.read(few))[0]
    if (pixels != pixels[..., :1]).any():
        return ()
    which = "all images are" if source.arrays else f"all {len(pixels)} images that were checked are"
    return (f"{which} grey, read as RGB; --config.data.channels=1 reads them in one channel",)
