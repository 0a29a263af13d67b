"""Any folder of PNG and JPEG images."""

import os
from pathlib import Path

import numpy as np

from diffusion.data.images import Header, decode, header
from diffusion.data.source import Source, hold_out, load
from diffusion.runtime.paths import expanded

SUFFIXES = (".png", ".jpg", ".jpeg")
PARTS = ("train/", "test/")


def folder(path: str | os.PathLike, train: bool, size: int = 0, crop: int = 0) -> Source:
    """All images under `path`, in the order of their paths; hidden files and folders are passed over.

    Split: if `path` has both a `train` and a `test` folder, these are the splits; else every 20th image is test.
    Labels: if every image lies in exactly one level of sub-folders, and there are at least two, their sorted names
    are the classes; else there are none. Channels: 1 if all images are grey, else 3; alpha and palettes as in
    `images.decode`. size: 0 demands that all images have one size, square or not; otherwise they are cropped and
    resized to [size, size], from a central square of `crop` pixels unless that is 0.

    Only headers are read at first, those of both splits, so that both have one shape. Sets of more than 256 MiB of
    pixels are decoded as they are read. Raises ValueError that names the offending file, here or (truncated files)
    when it is read.
    """
    root = expanded(path) if str(path) else Path()
    if not str(path) or not root.is_dir():
        raise ValueError(f"{str(path)!r}: no such folder of images")
    files, own_split = _listing(root), (root / "train").is_dir() and (root / "test").is_dir()
    if own_split:
        files = [file for file in files if file.startswith(PARTS)]
    if not files:
        raise ValueError(f"{root}: no image with the ending {', '.join(SUFFIXES)} in this folder or below it")
    headers = _headers(root, files)
    grey = all(seen.grey for seen in headers)
    shape = (size, size) if size else _one_size(root, files, headers)

    name = f"folder:{path}"
    if own_split:
        chosen = np.array([i for i, file in enumerate(files) if file.startswith(PARTS[not train])], np.int64)
        if not chosen.size:
            raise ValueError(
                f"{root / PARTS[not train]}: no image with the ending {', '.join(SUFFIXES)} in this folder"
            )
        labels, classes = _labels([file.partition("/")[2] for file in files])
    else:
        chosen = hold_out(name, len(files), train)
        labels, classes = _labels(files)
    chosen_files, chosen_labels = [str(root / files[i]) for i in chosen], labels[chosen]
    shape = (*shape, 1 if grey else 3)

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.empty((len(index), *shape), np.uint8)
        for row, i in enumerate(index):
            pixels[row] = decode(chosen_files[i], chosen_files[i], grey, size, crop)
        return pixels, chosen_labels[index]

    return load(Source(name, len(chosen_files), shape, classes, read))


def _listing(root: Path) -> list[str]:
    """Paths of the images below `root`, relative to it, with forward slashes, sorted: one order on every machine."""
    found = []
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        base = Path(place).relative_to(root)
        found += [(base / f).as_posix() for f in files if f.lower().endswith(SUFFIXES) and not f.startswith(".")]
    return sorted(found)


def _headers(root: Path, files: list[str]) -> list[Header]:
    from tqdm import tqdm

    return [header(str(root / file)) for file in tqdm(files, f"checking {root}", disable=None, delay=2)]


def _one_size(root: Path, files: list[str], headers: list[Header]) -> tuple[int, int]:
    """(height, width) of all images, or ValueError that names the first one that differs from the first image."""
    height, width, _ = headers[0]
    for file, seen in zip(files, headers, strict=True):
        if (seen.height, seen.width) != (height, width):
            raise ValueError(
                f"{root / file}: {seen.width}x{seen.height} pixels where {root / files[0]} has {width}x{height}; "
                "make them one size, or set a size (--config.data.size) to which all are cropped and resized"
            )
    return height, width


def _labels(files: list[str]) -> tuple[np.ndarray, int]:
    """Labels by sub-folder and the number of classes, 0 if the sub-folders do not tell classes apart."""
    parents = [os.path.dirname(file) for file in files]
    names = sorted(set(parents))
    if len(names) < 2 or not all(names) or any(map(os.path.dirname, names)):
        return np.zeros(len(files), np.int32), 0
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[parent] for parent in parents], np.int32), len(names)
