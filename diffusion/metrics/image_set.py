"""Sets of uint8 images, read a block at a time: .npz files and folders of PNG files."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.runtime import npz
from diffusion.runtime.files import atomic_file

BLOCK = 16 * 2**20
"""Bytes of pixels held at a time."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of the members of .npz files, so that equal sets are equal files."""

DEFLATED = 1032
"""The highest ratio of zip's compression."""

MODES = {1: "L", 3: "RGB"}
"""Channels -> Pillow's name."""


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

    Raises ValueError where the folder holds other PNG files, which readers of the folder would take for samples.
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


def read(path: Path, shape: tuple[int, int, int]) -> ImageSet:
    """The images of an .npz file (arr_0) or of a folder of PNG files, which must have this shape.

    Raises ValueError where they have another shape or type, or where there are none.
    """
    if path.is_dir():
        return _folder(path, shape)
    if not path.exists():
        raise ValueError(f"--samples={path}: no such file or folder")
    return _archive(path, shape)


def _archive(path: Path, shape: tuple[int, int, int]) -> ImageSet:
    with npz.one_line(f"--samples={path}: no .npz file with an array arr_0, or a damaged one"):
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("arr_0.npy")
            header = npz.header(archive, info)
        if info.file_size != header.promised:
            raise ValueError(f"{info.file_size - header.length} bytes for an array of {list(header.shape)}")
        if info.file_size > DEFLATED * path.stat().st_size:
            raise ValueError(f"{info.file_size} bytes in a file of {path.stat().st_size}")
    stored = header.shape
    if header.dtype != np.uint8 or header.fortran_order or stored[1:] != shape or not stored[0]:
        wanted = ", ".join(map(str, ("n", *shape)))
        raise ValueError(
            f"--samples={path}: arr_0 is {header.dtype} {list(stored)}, and samples of this run are uint8 [{wanted}]"
        )

    def blocks() -> Iterator[np.ndarray]:
        most = at_once(shape)
        with ExitStack() as stack:
            with npz.one_line(f"--samples={path}: is damaged"):
                archive = stack.enter_context(zipfile.ZipFile(path))
                member = stack.enter_context(archive.open(info))
                member.read(header.length)
            for done in range(0, stored[0], most):
                count = min(stored[0] - done, most)
                with npz.one_line(f"--samples={path}: is damaged after {done} images"):
                    data = member.read(count * int(np.prod(shape)))
                    block = np.frombuffer(data, np.uint8).reshape(count, *shape)
                yield block

    return ImageSet(stored[0], shape, blocks)


def _folder(folder: Path, shape: tuple[int, int, int]) -> ImageSet:
    from PIL import Image

    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise ValueError(f"--samples={folder}: there are no PNG files in this folder")
    height, width, channels = shape

    def one(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            if image.mode != MODES[channels] or image.size != (width, height):
                size = "x".join(map(str, image.size))
                raise ValueError(
                    f"--samples={path}: is {image.mode} of {size} pixels, not {MODES[channels]} of {width}x{height}"
                )
            return np.asarray(image).reshape(shape)

    def blocks() -> Iterator[np.ndarray]:
        size = at_once(shape)
        for i in range(0, len(paths), size):
            yield np.stack([one(path) for path in paths[i : i + size]])

    one(paths[0])
    return ImageSet(len(paths), shape, blocks)
