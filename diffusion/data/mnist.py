"""MNIST, and every set in its idx format (Fashion-MNIST, KMNIST, ...), from files on disk."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np

from diffusion.data.dataset_interface import Source, check_labels, in_memory
from diffusion.runtime.paths import expanded
from diffusion.runtime.short_error_text import reason

CLASSES = 10


def mnist(train: bool, data_dir: str | os.PathLike) -> Source:
    """The official split, grey, from the four idx files in `data_dir`, plain or .gz: train-images-idx3-ubyte and so on.

    Names with a dot before `idx`, as some copies have them, are found too. Nothing is downloaded. Raises ValueError
    that names the file that is missing, cut off, of another format, or that does not fit its partner.
    """
    if not data_dir:
        raise ValueError(
            "MNIST is read from disk: put the four official idx files (train-images-idx3-ubyte.gz, ...) into a folder "
            "and name it with --config.data.dir"
        )
    root = expanded(data_dir)
    part = "train" if train else "t10k"
    images_file, labels_file = _find(root, f"{part}-images", 3), _find(root, f"{part}-labels", 1)
    images, labels = _idx(images_file, 3), _idx(labels_file, 1)
    if len(images) != len(labels):
        raise ValueError(f"{labels_file}: {len(labels)} labels for the {len(images)} images of {images_file}")
    check_labels(str(labels_file), labels, CLASSES)
    return in_memory("mnist", images[..., None], labels, CLASSES)


def _find(root: Path, name: str, rank: int) -> Path:
    names = [f"{name}{mark}idx{rank}-ubyte{suffix}" for mark in "-." for suffix in ("", ".gz")]
    for candidate in names:
        if (root / candidate).is_file():
            return root / candidate
    raise ValueError(f"{root}: neither {names[0]} nor {names[1]} is in this folder")


def _idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array in an idx file: 0x0800 + rank and `rank` sizes, all big-endian uint32, then the values."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix.endswith("gz") else content
        magic, *shape = struct.unpack_from(f">{1 + rank}I", content)
        if magic != 0x0800 + rank:
            raise ValueError(f"it starts with {content[:4].hex()}")
        return np.frombuffer(content, np.uint8, offset=4 * (1 + rank)).reshape(shape)
    except Exception as error:  # gzip, struct and NumPy raise errors of many kinds
        raise ValueError(
            f"{path}: damaged, or no idx file of {rank} dimensions ({reason(error)}); fetch the file again"
        ) from error
