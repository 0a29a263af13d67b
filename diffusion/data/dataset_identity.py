"""The identity of a data set: what makes it the same data wherever it lies, and what a run compares when it resumes."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.dataset_interface import Source

ACCEPT = "--data_changed=accept"
SHOWN = 10
"""Class names that a line lists."""


TIMES = "times"
"""Stands in Identity.of where a folder is known by the times of its files instead of their content."""


class Identity(NamedTuple):
    """Number and shape of images, class names, and a digest. The place of the data is no part of it."""

    images: int
    """Of the training split."""
    held_out: int
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    """Names of the classes, by label; none for data without labels."""
    digest: str
    """16 hex digits."""
    of: str
    """What the digest is of: content, or file names, sizes and times."""

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        classes = f" in {len(self.classes)} classes" if self.classes else ""
        return f"{self.images} + {self.held_out} images of {size}{classes}, digest of {self.of} {self.digest}"


def identity(train: Source, held_out: Source) -> Identity:
    """The identity of a data set of two splits."""
    both = hashlib.sha256(f"{digest(train)} {digest(held_out)}".encode()).hexdigest()[:16]
    return Identity(train.size, held_out.size, train.shape, class_names(train), both, train.digest_of)


def of_copies(data: Identity, train: Source, held_out: Source) -> Identity:
    """The identity that copies on several machines share: the times of files differ, and pixels in memory stand in."""
    if TIMES not in data.of:
        return data
    if train.arrays and held_out.arrays:
        return identity(train._replace(digest=""), held_out._replace(digest=""))
    return data._replace(digest="")


def digest(source: Source) -> str:
    """64 hex digits for the images of a split, in order, with their labels: its reader's, or else of all pixels."""
    if source.digest:
        return source.digest
    totals = hashlib.sha256(str(source.shape).encode()), hashlib.sha256()
    chunks = np.array_split(np.arange(source.size), -(-source.size // 1024))
    for arrays in [source.arrays] if source.arrays else map(source.read, chunks):
        for total, array in zip(totals, arrays, strict=True):
            total.update(np.ascontiguousarray(array).data)
    return hashlib.sha256(b"".join(total.digest() for total in totals)).hexdigest()


def class_names(source: Source) -> tuple[str, ...]:
    """The names of the classes by label: the reader's, or else their numbers."""
    return source.class_names or tuple(map(str, range(source.classes)))


def from_json(stored: Any) -> Identity | None:
    """An identity from the JSON of its _asdict(); None for None. Raises KeyError or TypeError for anything else."""
    if stored is None:
        return None
    images, held_out, shape, classes, digest, of = (stored[name] for name in Identity._fields)
    return Identity(images, held_out, tuple(shape), tuple(classes), digest, of)


def changes(stored: Identity, current: Identity) -> list[str]:
    """What differs between two identities, a phrase each."""
    phrases = [
        f"{old} {name} then and {new} now"
        for name, old, new in (
            ("training images", stored.images, current.images),
            ("held-out images", stored.held_out, current.held_out),
        )
        if old != new
    ]
    if stored.shape != current.shape:
        phrases.append(f"images of {list(stored.shape)} then and {list(current.shape)} now")
    if stored.classes != current.classes:
        phrases.append(f"classes {listed(stored.classes)} then and {listed(current.classes)} now")
    if not phrases and stored.digest != current.digest:
        phrases.append(f"the same number of images, but other {current.of}")
    return phrases


def listed(names: Sequence[str]) -> str:
    """Class names for a line, the first of them where they are many."""
    more = f", ... ({len(names)})" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"


def by_number(name: str) -> tuple[bool, float, str]:
    """The key by which class names are sorted: numbers as numbers, before all others."""
    number = re.fullmatch(r"[+-]?\d+(\.\d+)?", name, re.ASCII)
    return not number, float(name) if number else 0.0, name


def label_number(text: str, names: Sequence[str]) -> int:
    """The label that a user writes: a class by its name or, where no name is a number, by its number.

    Without `names` a number is taken as it is. Raises ValueError for what is no class.
    """
    if text in names:
        return names.index(text)
    numbers = all(by_number(name)[0] for name in names)  # else 2 could mean the class named 2, or the third
    if text.isascii() and text.isdecimal() and (not names or (numbers and int(text) < len(names))):
        return int(text)
    kind = "a name or a number" if numbers else "a name"
    legal = f"{kind} of {listed(names)}" if names else "its number, such as 3"
    raise ValueError(f"--label={text} is no label of this run: give {legal}, or several separated by commas")
