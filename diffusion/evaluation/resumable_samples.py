"""A set of images that is being drawn, in a folder of parts: an interrupted set resumes after its last part."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.metrics.image_set import ImageSet, at_once
from diffusion.runtime import npz_reader
from diffusion.runtime.atomic_files import write_npz
from diffusion.runtime.file_lock import exclusive

SECONDS = 30.0
"""A part is written after this time even if it is small: what an interrupted process draws again, at most."""


class Part(NamedTuple):
    """A file with images start to stop - 1 of a set."""

    path: Path
    start: int
    stop: int
    finite: np.ndarray
    """bool [stop - start]: which images were finite before they became pixels."""


def find(folder: Path, shape: tuple[int, int, int]) -> list[Part]:
    """The parts in a folder that follow each other from image 0. A damaged part ends the list and is drawn again."""
    starts = {int(m[1]): path for path in folder.glob("*.npz") if (m := re.fullmatch(r"images_(\d+)\.npz", path.name))}
    parts: list[Part] = []
    while (path := starts.get(start := parts[-1].stop if parts else 0)) is not None:
        try:
            arrays = npz_reader.read(path)
            pixels, finite = arrays["pixels"], arrays["finite"]
        except (ValueError, OSError, KeyError):
            break
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels) == len(finite) > 0:
            break
        parts.append(Part(path, start, start + len(pixels), finite))
    return parts


def image_set(parts: Sequence[Part], shape: tuple[int, int, int], n: int) -> ImageSet:
    """The set of the first n images of parts.

    Its blocks raise ValueError where a file does not hold the images that it held when the part was found or written.
    """

    def blocks() -> Iterator[np.ndarray]:
        for part in parts:
            pixels = npz_reader.read(part.path).get("pixels", np.zeros(0))
            if pixels.shape != (part.stop - part.start, *shape):
                raise ValueError(
                    f"{part.path} holds {len(pixels)} images instead of {part.stop - part.start}: another process has "
                    "drawn into this folder; run this again"
                )
            yield pixels

    broken = sum(int((~part.finite[: max(0, n - part.start)]).sum()) for part in parts)
    return ImageSet(n, shape, blocks, broken)


def draw(
    folder: Path,
    shape: tuple[int, int, int],
    n: int,
    batches: Callable[[int], Iterable[tuple[np.ndarray, np.ndarray]]],
    progress: Callable[[int], object],
) -> ImageSet:
    """The first n images of the set in a folder: those that are stored, and after them batches(first), stored too.

    `batches` gives (uint8 pixels, bool which are finite) of images first, first + 1, ... n - 1. A part is written when
    it has a block's size or is SECONDS old, and the rest when the batches end or raise. `progress` is called with the
    number of images that exist. Raises ValueError where another process draws into the folder.
    """
    with exclusive(folder / "lock", str(folder), "wait until it ends, then run this again", remove=True):
        parts, last_write = find(folder, shape), time.monotonic()
        done = parts[-1].stop if parts else 0
        held: list[tuple[np.ndarray, np.ndarray]] = []
        progress(min(done, n))

        def write() -> None:
            if held:
                pixels, finite = (np.concatenate(column) for column in zip(*held, strict=True))
                path = folder / f"images_{done - len(pixels):07d}.npz"
                write_npz(path, {"pixels": pixels, "finite": finite})
                parts.append(Part(path, done - len(pixels), done, finite))
                held.clear()

        try:
            for batch in batches(done) if done < n else ():
                held.append(batch)
                done += len(batch[0])
                progress(done)
                if sum(len(pixels) for pixels, _ in held) >= at_once(shape) or time.monotonic() - last_write > SECONDS:
                    write()
                    last_write = time.monotonic()
        finally:
            write()
    return image_set(parts, shape, n)
