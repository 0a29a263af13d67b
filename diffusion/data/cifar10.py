"""CIFAR-10 from records of TFDS, the official files, or the network, without TensorFlow."""

import os
from pathlib import Path

from diffusion.data import cifar10_files, tfds
from diffusion.data.download import DownloadError, Remote, fetch
from diffusion.data.source import Source, in_memory, load
from diffusion.runtime.bucket import Bucket
from diffusion.runtime.paths import cache_folder, expanded

OFFICIAL = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)


def cifar10(
    train: bool,
    data_dir: str | os.PathLike = "",
    download: bool = True,
    *,
    remote: Remote = OFFICIAL,
    per_file: int = cifar10_files.PER_FILE,
) -> Source:
    """The 50,000 training or the 10,000 test images, in host memory, with labels 0..9.

    Searched for in `data_dir`, in TFDS's own folder and in the download cache, in each of them first array_record files
    of TFDS, then the official archive or its extracted folder. The first that exists is checked and used: damage is an
    error, never a reason to search on. Otherwise the binary archive is downloaded into `data_dir`, or the cache.

    per_file: images in each of the official files. Raises ValueError; without data it names the ways to supply them.
    """
    given = expanded(data_dir) if data_dir else None
    if given and not given.exists() and given.name.endswith((".gz", ".tar", ".tgz")):
        raise ValueError(f"{given}: no such archive")
    if given and (source := _at(given, train, per_file)):
        return source
    for place in (tfds.default_dir(), cache_folder("data")):
        if source := _at(place, train, per_file):
            return source
    folder = cache_folder("data") if given is None or isinstance(given, Bucket) else given
    archive = folder / cifar10_files.ARCHIVES[0]
    try:
        if not download:
            raise DownloadError("downloads are switched off (--config.data.download)")
        fetch(remote, archive)
    except DownloadError as error:
        raise ValueError(
            f"CIFAR-10 is not on this machine and was not downloaded: {error}. Supply it in one of three ways: "
            f"(1) records that TFDS prepared as array_record, under {tfds.default_dir()} or --config.data.dir; "
            f"(2) {' or '.join(cifar10_files.ARCHIVES)}, or the extracted folder, in the folder --config.data.dir; "
            f"(3) a network connection to {remote.url}"
        ) from error
    source = _at(archive, train, per_file)
    assert source is not None
    return source


def _at(place: Path, train: bool, per_file: int) -> Source | None:
    """The split at this place, or None if CIFAR-10 is not there."""
    if isinstance(place, Bucket) and not place.exists():
        raise ValueError(f"{place}: no such folder or archive, or no permission to list it")
    records = tfds.prepared("cifar10", place, strict=False)
    if records:
        return load(tfds.read_prepared(records, "cifar10", train))._replace(name="cifar10")
    arrays = cifar10_files.read(place, train, per_file)
    names = cifar10_files.CLASSES
    return in_memory("cifar10", *arrays, classes=len(names), class_names=names) if arrays else None
