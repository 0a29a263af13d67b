"""Sets of uint8 images, read a block at a time: .npz files and folders of image files."""

import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.data.image_decoder import decode, header
from diffusion.data.image_files import ENDINGS, listing, remarks
from diffusion.runtime import npz_reader
from diffusion.runtime.atomic_files import atomic_file, written
from diffusion.runtime.bucket_cache import local

BLOCK = 16 * 2**20
"""Bytes of pixels held at a time."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of the members of .npz files, so that equal sets are equal files."""

ARRAY = "arr_0.npy"
"""The images' file in an archive."""

BACKGROUND = "white"
"""Behind transparent pixels of samples."""

FEW = 16
"""Images of a folder whose levels are looked at before they are read."""


class ImageSet(NamedTuple):
    """Images [n, H, W, C], uint8, that need not be in memory."""

    n: int
    shape: tuple[int, int, int]
    read: Callable[[], Iterator[np.ndarray]]
    """Starts again from image 0; blocks of bounded size, which hold n images or more in all."""
    broken: int = 0
    """Images that were drawn with numbers that are not finite, if counted."""

    def blocks(self) -> Iterator[np.ndarray]:
        """The n images, in blocks of bounded size. Raises ValueError where there are fewer."""
        done = 0
        for block in self.read():
            yield block[: self.n - done]
            done += len(block)
            if done >= self.n:
                return
        if done < self.n:
            raise ValueError(f"a set of {self.n} images holds only {done}; draw or copy it again")

    def first(self, n: int) -> "ImageSet":
        """The set of its first n images."""
        return self._replace(n=min(n, self.n))

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


def at_once(shape: Sequence[int]) -> int:
    """Images of this shape in a block."""
    return max(1, BLOCK // int(np.prod(shape)))


def write_archive(path: Path, images: ImageSet, labels: np.ndarray | None = None) -> None:
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


def write_folder(folder: Path, images: ImageSet) -> None:
    """One PNG file an image: 000000.png, 000001.png, ...

    Raises ValueError where the folder holds other images, which readers of the folder would take for samples.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{i:06d}.png" for i in range(images.n))
    if other := sorted(set(listing(folder).files) - set(names)):
        raise ValueError(f"{folder} holds images of another set, such as {other[0]}; give another --out, or empty it")
    with written(folder) as place:
        place.mkdir(exist_ok=True)
        i = 0
        for block in images.blocks():
            for image in block:
                Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(place / f"{i:06d}.png")
                i += 1


def read(path: Path, shape: tuple[int, int, int]) -> ImageSet:
    """The images of an .npz file (arr_0) or of a folder of image files, which must have this shape.

    Files are read by data/image_decoder.py; what is left out or changed is a warning. Raises ValueError where they have
    another shape or type, where they are 0 and 1 instead of levels, or where there are none.
    """
    if path.is_dir():
        return _folder(path, shape)
    if not path.exists():
        raise ValueError(f"--samples={path}: no such file or folder")
    return _archive(local(path), shape)


def _archive(path: Path, shape: tuple[int, int, int]) -> ImageSet:
    unreadable = npz_reader.one_line(f"--samples={path}: no .npz file with an array arr_0, or a damaged one")
    with unreadable, zipfile.ZipFile(path) as archive, archive.open(ARRAY) as member:
        stored, fortran_order, dtype = npz_reader.header(member)
    if fortran_order:
        raise ValueError(f"--samples={path}: arr_0 is in Fortran order; write numpy.ascontiguousarray(arr_0) instead")
    if dtype != np.uint8 or stored[1:] != shape or not stored[0]:
        wanted = ", ".join(map(str, ("n", *shape)))
        raise ValueError(
            f"--samples={path}: arr_0 is {dtype} {list(stored)}, and samples of this run are uint8 [{wanted}]"
        )

    def blocks() -> Iterator[np.ndarray]:
        most = at_once(shape)
        with ExitStack() as stack:
            with npz_reader.one_line(f"--samples={path}: is damaged"):
                archive = stack.enter_context(zipfile.ZipFile(path))
                member = stack.enter_context(archive.open(ARRAY))
                npz_reader.header(member)
            for done in range(0, stored[0], most):
                count = min(stored[0] - done, most)
                with npz_reader.one_line(f"--samples={path}: is damaged after {done} images"):
                    data = member.read(count * int(np.prod(shape)))
                    block = np.frombuffer(data, np.uint8).reshape(count, *shape)
                yield block

    images = ImageSet(stored[0], shape, blocks)
    _require_levels(f"--samples={path}", next(images.blocks()))
    return images


def _folder(folder: Path, shape: tuple[int, int, int]) -> ImageSet:
    title = f"--samples={folder}"
    files, notes = listing(folder)
    if not files:
        raise ValueError(f"{title}: there is no image with the ending {', '.join(ENDINGS)} in this folder")
    names = [str(folder / file) for file in files]
    height, width, channels = shape
    headers = [header(name, f"--samples={name}") for name in names]
    for name, seen in zip(names, headers, strict=True):
        if (seen.height, seen.width) != (height, width) or (channels > 1 and seen.grey):
            kind = "grey" if seen.grey else "in colour"
            wanted = f"{width}x{height} {'grey' if channels == 1 else 'in colour'}"
            raise ValueError(f"--samples={name}: is {seen.width}x{seen.height} {kind}, and samples are {wanted}")
    for note in (*notes, *remarks(headers, BACKGROUND)):
        warnings.warn(f"{title}: {note}", UserWarning, stacklevel=3)

    def one(name: str) -> np.ndarray:
        pixels = decode(name, f"--samples={name}", grey=False, background=BACKGROUND)
        if channels == 1 and (pixels != pixels[..., :1]).any():
            raise ValueError(f"--samples={name}: has colours, and samples of this run are grey")
        return pixels[..., :channels]

    def blocks() -> Iterator[np.ndarray]:
        size = at_once(shape)
        for i in range(0, len(names), size):
            yield np.stack([one(name) for name in names[i : i + size]])

    _require_levels(title, np.stack([one(name) for name in names[:FEW]]))
    return ImageSet(len(names), shape, blocks)


def _require_levels(title: str, pixels: np.ndarray) -> None:
    """Raises ValueError for images of the values 0 and 1, which would all be black."""
    if pixels.max() == 1:
        raise ValueError(f"{title}: its pixels are 0 or 1, and levels are 0 to 255; multiply them by 255")
