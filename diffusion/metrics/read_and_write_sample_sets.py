"""Sample sets as files: uint8 images [n, H, W, C] from .npz files, from and to folders of image files."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from diffusion.data.image_decoder import decode, header
from diffusion.data.list_image_files import ENDINGS, listing, remarks
from diffusion.runtime import npz_reader
from diffusion.runtime.atomic_files import written
from diffusion.runtime.bucket_cache import local

BACKGROUND = "white"
"""Behind transparent pixels of samples."""


def write_folder(folder: Path, images: np.ndarray) -> None:
    """One PNG file an image: 000000.png, 000001.png, ...

    Raises ValueError where the folder holds other images, which readers of the folder would take for samples.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{i:06d}.png" for i in range(len(images))]
    if other := sorted(set(listing(folder).files) - set(names)):
        raise ValueError(f"{folder} holds images of another set, such as {other[0]}; give another --out, or empty it")
    with written(folder) as place:
        place.mkdir(exist_ok=True)
        for name, image in zip(names, images, strict=True):
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(place / name)


def read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The images of an .npz file (arr_0) or of a folder of image files, which must have this shape.

    Files are read by data/image_decoder.py; what is left out or changed is a warning. Raises ValueError where they have
    another shape or type, where they are 0 and 1 instead of levels, or where there are none.
    """
    if not path.exists():
        raise ValueError(f"--samples={path}: no such file or folder")
    pixels = _folder(path, shape) if path.is_dir() else _archive(local(path), shape)
    if pixels.max() == 1:
        raise ValueError(f"--samples={path}: its pixels are 0 or 1, and levels are 0 to 255; multiply them by 255")
    return pixels


def _archive(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    fault = f"--samples={path}: no .npz file with an array arr_0, or a damaged one"
    with npz_reader.one_line(fault), np.load(path, allow_pickle=False) as file:
        pixels = np.asarray(file["arr_0"])
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels):
        wanted, stored = ", ".join(map(str, ("n", *shape))), list(pixels.shape)
        raise ValueError(
            f"--samples={path}: arr_0 is {pixels.dtype} {stored}, and samples of this run are uint8 [{wanted}]"
        )
    return pixels


def _folder(folder: Path, shape: tuple[int, int, int]) -> np.ndarray:
    title = f"--samples={folder}"
    files, notes = listing(folder)
    if not files:
        raise ValueError(f"{title}: there is no image with the ending {', '.join(ENDINGS)} in this folder")
    paths = [folder / file for file in files]
    with ThreadPoolExecutor(8) as pool:  # from a bucket each is fetched
        headers = [*pool.map(lambda path: header(str(local(path)), f"--samples={path}"), paths)]
    for name, seen in zip(paths, headers, strict=True):
        if (seen.height, seen.width) != shape[:2]:
            raise ValueError(f"--samples={name}: is {seen.width}x{seen.height}, and samples are {shape[1]}x{shape[0]}")
    for note in (*notes, *remarks(headers, BACKGROUND)):
        warnings.warn(f"{title}: {note}", UserWarning, stacklevel=3)

    def one(path: Path) -> np.ndarray:
        pixels = decode(str(local(path)), f"--samples={path}", grey=False, background=BACKGROUND)
        if shape[2] == 1 and (pixels != pixels[..., :1]).any():
            raise ValueError(f"--samples={path}: has colours, and samples of this run are grey")
        return pixels[..., : shape[2]]

    with ThreadPoolExecutor(8) as pool:
        return np.stack([*pool.map(one, paths)])
