"""`Source`: what every reader of a data set returns. Random access to uint8 images with integer labels."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

SMALL = 256 * 2**20
"""Sets whose pixels take no more bytes than this are kept in host memory by their reader."""

HOLD_OUT = 20
"""A set without a test split of its own holds out one example in so many."""

T = TypeVar("T")


class Source(NamedTuple):
    """One split of a data set, in host memory or decoded as it is read. All examples have one shape."""

    name: str
    size: int
    """N, at least 1."""
    shape: tuple[int, int, int]
    """H, W, C with C = 1 or 3."""
    classes: int
    """Labels are 0..classes-1; 0 classes: the set has no labels."""
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Indices int64 [n] -> (pixels uint8 [n, H, W, C], labels int32 [n], zeros if there are none). Thread-safe."""
    arrays: tuple[np.ndarray, np.ndarray] | None = None
    """(pixels, labels) of the whole split when it is in host memory."""
    class_names: tuple[str, ...] = ()
    """By label; empty: the classes have numbers alone."""
    digest: str = ""
    """Identifies the images and their order (dataset_identity.py); empty: the digest of all pixels and labels does."""
    digest_of: str = "content"
    notes: tuple[str, ...] = ()
    """What the reader left out or changed, a line each, for the start-up report."""


Splits = Callable[[bool], Source]
"""A data set: whether the training split is wanted -> the training or the held-out split."""


def in_memory(
    name: str,
    pixels: np.ndarray,
    labels: np.ndarray | None = None,
    classes: int = 0,
    class_names: tuple[str, ...] = (),
) -> Source:
    """A source over arrays: pixels uint8 [N, H, W, C], labels integers [N] in 0..classes-1.

    Raises ValueError if there is no image, if a dtype or a shape is another, or if a label is out of range.
    """
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[3] not in (1, 3):
        raise ValueError(f"{name}: pixels must be uint8 [N, H, W, 1 or 3], got {pixels.dtype} {list(pixels.shape)}")
    if not pixels.size:
        raise ValueError(f"{name}: holds no image, its shape is {list(pixels.shape)}; at least one image is needed")
    count = len(pixels)
    labels = np.zeros(count, np.int32) if labels is None else labels
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name}: labels must be integers [{count}] like the images, got {labels.dtype} {list(labels.shape)}"
        )
    if classes:
        check_labels(name, labels, classes)
    pixels, labels = np.ascontiguousarray(pixels), labels.astype(np.int32)

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return pixels[index], labels[index]

    height, width, channels = pixels.shape[1:]
    return Source(name, count, (height, width, channels), classes, read, (pixels, labels), class_names)


def check_labels(name: str, labels: np.ndarray, classes: int) -> None:
    """Raises ValueError that names the first label outside 0..classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise ValueError(f"{name}: label {labels[wrong[0]]} of image {wrong[0]} is not in 0..{classes - 1}")


def load(source: Source, limit: int = SMALL) -> Source:
    """The source with its arrays in host memory if its pixels take at most `limit` bytes, else as it is.

    Decodes in threads, in chunks; an error of the reader (a broken file) is raised as it is.
    """
    if source.arrays is not None or source.size * int(np.prod(source.shape)) > limit:
        return source
    pixels, labels = np.empty((source.size, *source.shape), np.uint8), np.empty(source.size, np.int32)
    for chunk, result in in_threads(source.read, source.size, f"reading {source.name}"):
        pixels[chunk], labels[chunk] = result
    held = in_memory(source.name, pixels, labels, source.classes)
    return source._replace(read=held.read, arrays=held.arrays)


def in_threads(call: Callable[[np.ndarray], T], count: int, title: str) -> Iterator[tuple[np.ndarray, T]]:
    """(indices, call(indices)) over 0..count-1 in order, in chunks, with a progress bar where it takes seconds.

    The first error ends it and is raised as it is.
    """
    from tqdm import tqdm

    chunks = np.array_split(np.arange(count), -(-count // 64))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from zip(chunks, tqdm(pool.map(call, chunks), title, len(chunks), disable=None, delay=2), strict=True)


def hold_out(name: str, count: int, train: bool) -> np.ndarray:
    """Indices of a split of a set that has no test split of its own: examples 19, 39, ... are test, the others train.

    For sets whose order never changes. Raises ValueError if test examples are asked for and there are fewer than 20.
    """
    index = np.arange(count)
    require_enough(name, count, train)
    return index[(index % HOLD_OUT != HOLD_OUT - 1) == train]


def require_enough(name: str, count: int, train: bool) -> None:
    """Raises ValueError if test examples are asked for and there are fewer than 20 examples."""
    if not train and count < HOLD_OUT:
        raise ValueError(
            f"{name}: {count} images are too few to hold some out for a test split; "
            f"supply at least {HOLD_OUT}, or a test split of its own"
        )


def require_labels(source: Source, key: str, remedy: str) -> None:
    """Raises ValueError for a set without labels, with what its reader reports of it."""
    if not source.classes:
        why = f" ({'; '.join(source.notes)})" if source.notes else ""
        raise ValueError(f"{key}: {source.name} has no labels{why}; {remedy}")
