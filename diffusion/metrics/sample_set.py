"""Sets of uint8 images on disk, read a block at a time: parts as they are drawn, .npz files, folders of PNG files."""

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.runtime.files import atomic_file, write_npz

BLOCK = 16 * 2**20
"""Bytes of pixels held at a time, and in one part."""

SECONDS = 30.0
"""A part is written after so long even if it is small: what an interrupted run draws again, at most."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date that .npz files are given, so that equal sets are equal files."""

MODES = {1: "L", 3: "RGB"}
"""Channels -> Pillow's name."""

Blocks = Callable[[], Iterator[np.ndarray]]


class SampleSet(NamedTuple):
    """Images [n, H, W, C], uint8, that need not be in memory."""

    n: int
    shape: tuple[int, int, int]
    blocks: Blocks
    """Starts anew from image 0; blocks of bounded size that hold n images in all."""
    broken: int = 0
    """Images that were drawn with numbers that are not finite, where that is known."""

    def first(self, n: int) -> "SampleSet":
        """The set of its first n images."""

        def blocks() -> Iterator[np.ndarray]:
            left = n
            for block in self.blocks():
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return

        return self._replace(n=min(n, self.n), blocks=blocks)

    def pixels(self) -> np.ndarray:
        """All images in memory."""
        return np.concatenate([np.zeros((0, *self.shape), np.uint8), *self.blocks()])

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """The images in blocks of one size, the last one shorter."""
        held: list[np.ndarray] = []
        for block in self.blocks():
            held.append(block)
            if sum(map(len, held)) >= size:
                joined = np.concatenate(held)
                whole = len(joined) // size * size
                yield from (joined[i : i + size] for i in range(0, whole, size))
                held = [joined[whole:]]
        if sum(map(len, held)):
            yield np.concatenate(held)


class Part(NamedTuple):
    """A file of a set that is being drawn."""

    path: Path
    start: int
    stop: int
    finite: np.ndarray
    """bool [stop - start]: which images were finite before they became pixels."""


def at_once(shape: Sequence[int]) -> int:
    """Images of this shape in a block."""
    return max(1, BLOCK // int(np.prod(shape)))


def parts(folder: Path, shape: tuple[int, int, int]) -> list[Part]:
    """The parts in a folder that follow each other from image 0; what is damaged ends the row and is drawn again."""
    starts = {int(m[1]): path for path in folder.glob("*.npz") if (m := re.fullmatch(r"images_(\d+)\.npz", path.name))}
    found: list[Part] = []
    while (path := starts.get(found[-1].stop if found else 0)) is not None:
        start = found[-1].stop if found else 0
        try:
            with np.load(path) as file:
                pixels, finite = file["pixels"], file["finite"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            break
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels) == len(finite) > 0:
            break
        found.append(Part(path, start, start + len(pixels), finite))
    return found


def write_part(folder: Path, start: int, pixels: np.ndarray, finite: np.ndarray) -> Part:
    """Images start, start + 1, ... of a set, written at once."""
    path = folder / f"images_{start:07d}.npz"
    write_npz(path, {"pixels": pixels, "finite": finite})
    return Part(path, start, start + len(pixels), finite)


def of_parts(some: Sequence[Part], shape: tuple[int, int, int], n: int) -> SampleSet:
    """The set of the first n images that parts hold."""

    def blocks() -> Iterator[np.ndarray]:
        for part in some:
            if part.start < n:
                with np.load(part.path) as file:
                    yield file["pixels"][: n - part.start]

    broken = sum(int((~part.finite[: max(0, n - part.start)]).sum()) for part in some)
    return SampleSet(n, shape, blocks, broken)


def write_archive(path: Path, images: SampleSet, labels: np.ndarray | None = None) -> None:
    """An .npz file with uint8 arr_0 [n, H, W, C] and, where there are labels, arr_1 [n].

    The layout that the evaluator of guided-diffusion reads. Images go into it block by block.
    """
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open(zipfile.ZipInfo("arr_0.npy", EPOCH), "w", force_zip64=True) as member:
            head = {"descr": "|u1", "fortran_order": False, "shape": (images.n, *images.shape)}
            np.lib.format.write_array_header_1_0(member, head)
            for block in images.blocks():
                member.write(np.ascontiguousarray(block).tobytes())
        if labels is not None:
            with archive.open(zipfile.ZipInfo("arr_1.npy", EPOCH), "w") as member:
                np.lib.format.write_array(member, np.asarray(labels, np.int64), allow_pickle=False)


def write_folder(folder: Path, images: SampleSet) -> None:
    """One PNG file an image: 000000.png, 000001.png, ...

    Raises ValueError where the folder holds other PNG files, which whoever reads the folder would take for samples.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{i:06d}.png" for i in range(images.n))
    if other := sorted({path.name for path in folder.glob("*.png")} - set(names)):
        raise ValueError(
            f"{folder} holds PNG files of another set, such as {other[0]}; give another --out, or empty it"
        )
    i = 0
    for block in images.blocks():
        for image in block:
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(folder / f"{i:06d}.png")
            i += 1


def read(path: Path, shape: tuple[int, int, int]) -> SampleSet:
    """The images of an .npz file (arr_0) or of a folder of PNG files, which must have this shape.

    Raises ValueError where they have another shape or type, or where there are none.
    """
    if path.is_dir():
        return _folder(path, shape)
    if not path.exists():
        raise ValueError(f"--samples={path}: there is no such file or folder")
    return _archive(path, shape)


def _archive(path: Path, shape: tuple[int, int, int]) -> SampleSet:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
            found, fortran, dtype = _head(member)
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--samples={path}: no .npz file with an array arr_0, or a damaged one ({reason})") from None
    if dtype != np.uint8 or fortran or found[1:] != shape or not found[0]:
        wanted = ", ".join(map(str, ("n", *shape)))
        raise ValueError(
            f"--samples={path}: arr_0 is {dtype} {list(found)}, and samples of this run are uint8 [{wanted}]"
        )

    def blocks() -> Iterator[np.ndarray]:
        left, many = found[0], at_once(shape)
        try:
            with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
                _head(member)
                while left:
                    count = min(left, many)
                    data = member.read(count * int(np.prod(shape)))
                    yield np.frombuffer(data, np.uint8).reshape(count, *shape)
                    left -= count
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"--samples={path}: is damaged after {found[0] - left} images ({error})") from None

    return SampleSet(found[0], shape, blocks)


def _head(member) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an .npy file, whose data come next."""
    version = np.lib.format.read_magic(member)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"format {version} of .npy files is not read here")
    return reader(member)


def _folder(folder: Path, shape: tuple[int, int, int]) -> SampleSet:
    from PIL import Image

    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise ValueError(f"--samples={folder}: there are no PNG files in this folder")
    height, width, channels = shape

    def one(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            if image.mode != MODES[channels] or image.size != (width, height):
                found = f"{image.mode} of {image.size[0]}x{image.size[1]} pixels"
                raise ValueError(f"--samples={path}: is {found}, not {MODES[channels]} of {width}x{height}")
            return np.asarray(image).reshape(shape)

    def blocks() -> Iterator[np.ndarray]:
        many = at_once(shape)
        for i in range(0, len(paths), many):
            yield np.stack([one(path) for path in paths[i : i + many]])

    one(paths[0])
    return SampleSet(len(paths), shape, blocks)
