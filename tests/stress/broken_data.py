"""Data sets for the fuzz: each is built in an empty folder, and is damaged, odd, or for comparison sound."""

import gzip
import io
import os
import pickle
import random
import struct
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Args = list[str]
RECORD, PER_FILE = 3073, 10_000
CIFAR = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
PARTS = {"train-images-idx3-ubyte": 40, "train-labels-idx1-ubyte": 40, "t10k-images-idx3-ubyte": 20}
MNIST = {**PARTS, "t10k-labels-idx1-ubyte": 20}


class Case(NamedTuple):
    """One data set."""

    name: str
    build: Callable[[Path, random.Random], Args]
    """(empty folder, random numbers) -> the arguments that name the data."""
    usable: bool | None = False
    """Whether it can be trained on; None: whichever, in one line or not at all."""


# ------------------------------------------------------------------------------------------------------------ CIFAR-10


def cifar(change: Callable[[Path, random.Random], Any], folder: Path, draw: random.Random) -> Args:
    """The six binary files, black and of class 0 (sparse, so that they cost nothing), and what is done to them."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    for name in CIFAR:
        with (place / name).open("wb") as file:
            file.truncate(PER_FILE * RECORD)
    change(place, draw)
    return ["--config.data.name=cifar10", f"--config.data.dir={folder}"]


def resized(name: str, size: int) -> Callable[[Path, random.Random], Any]:
    """Cuts or lengthens a file."""
    return lambda place, draw: os.truncate(place / name, size)  # noqa: ARG005


def poked(name: str, at: int | None, byte: int) -> Callable[[Path, random.Random], None]:
    """Changes a byte, of the pixels of some image unless told where."""

    def change(place: Path, draw: random.Random) -> None:
        with (place / name).open("r+b") as file:
            file.seek(draw.randrange(PER_FILE) * RECORD + 1 + draw.randrange(3072) if at is None else at)
            file.write(bytes([byte]))

    return change


def removed(name: str) -> Callable[[Path, random.Random], None]:
    """Takes a file away."""
    return lambda place, draw: (place / name).unlink()  # noqa: ARG005


def as_folder(name: str) -> Callable[[Path, random.Random], None]:
    """Puts a folder where a file should be."""

    def change(place: Path, draw: random.Random) -> None:  # noqa: ARG001
        (place / name).unlink()
        (place / name).mkdir()

    return change


def dangling(name: str) -> Callable[[Path, random.Random], None]:
    """Puts a link to nowhere where a file should be."""

    def change(place: Path, draw: random.Random) -> None:  # noqa: ARG001
        (place / name).unlink()
        (place / name).symlink_to("nowhere")

    return change


def packed(members: dict[str, bytes], damage: Callable[[bytes], bytes] = lambda b: b) -> bytes:
    """A .tar.gz of these members, damaged."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return damage(file.getvalue())


def archive(content: bytes, folder: Path, draw: random.Random) -> Args:  # noqa: ARG001
    """What lies in place of the archive."""
    (folder / "cifar-10-binary.tar.gz").write_bytes(content)
    return ["--config.data.name=cifar10", f"--config.data.dir={folder}"]


def pickled(batch: Any, folder: Path, draw: random.Random) -> Args:  # noqa: ARG001
    """What lies in place of the files of the Python archive."""
    content = batch if isinstance(batch, bytes) else pickle.dumps(batch, protocol=2)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(content)
    return ["--config.data.name=cifar10", f"--config.data.dir={folder}"]


class Command:
    """What runs a command when it is unpickled carelessly."""

    def __reduce__(self) -> Any:
        return os.system, ("touch unpickled; exit 1",)


def nothing(place: Path, draw: random.Random) -> None:
    """No damage."""


def elsewhere(what: str, folder: Path, draw: random.Random) -> Args:  # noqa: ARG001
    """data.dir is no folder, or an empty one."""
    place = folder / what
    if what == "file":
        place.write_text("no data")
    elif what == "empty":
        place.mkdir()
    return ["--config.data.name=cifar10", f"--config.data.dir={place}"]


FULL = PER_FILE * RECORD
CIFAR_CASES = (
    Case("cifar10", partial(cifar, nothing), True),
    *(Case(f"cifar10 without {name}", partial(cifar, removed(name))) for name in CIFAR),
    *(
        Case(f"cifar10, {name} of {size} bytes", partial(cifar, resized(name, size)))
        for name, size in ((CIFAR[0], FULL - 1), (CIFAR[2], FULL // 2), (CIFAR[5], 0), (CIFAR[4], 1))
    ),
    Case("cifar10, a byte too many", partial(cifar, resized(CIFAR[1], FULL + 1))),
    Case("cifar10, a record too many", partial(cifar, resized(CIFAR[5], FULL + RECORD))),
    Case("cifar10, label 10 of the first image", partial(cifar, poked(CIFAR[0], 0, 10))),
    Case("cifar10, label 255 of the last image", partial(cifar, poked(CIFAR[5], FULL - RECORD, 255))),
    Case("cifar10, label 11 in the middle", partial(cifar, poked(CIFAR[3], 77 * RECORD, 11))),
    Case("cifar10, another label that is one", partial(cifar, poked(CIFAR[3], 77 * RECORD, 9)), True),
    Case("cifar10, another pixel", partial(cifar, poked(CIFAR[2], None, 255)), True),
    Case("cifar10, a folder for a file", partial(cifar, as_folder(CIFAR[1]))),
    Case("cifar10, a link to nowhere", partial(cifar, dangling(CIFAR[5]))),
    Case("cifar10, empty archive file", partial(archive, b"")),
    Case("cifar10, a text as archive", partial(archive, b"404: not found\n" * 9)),
    Case("cifar10, archive of other files", partial(archive, packed({"x.bin": b"x"}))),
    Case("cifar10, archive with short files", partial(archive, packed(dict.fromkeys(CIFAR, b"x" * RECORD)))),
    Case("cifar10, archive lacks a file", partial(archive, packed(dict.fromkeys(CIFAR[1:], b"x")))),
    Case(
        "cifar10, archive cut short", partial(archive, packed(dict.fromkeys(CIFAR, b"x"), lambda b: b[: len(b) // 2]))
    ),
    Case("cifar10, archive with another checksum", partial(archive, packed({}, lambda b: b[:-8] + bytes(8)))),
    Case("cifar10, gzip of no tar", partial(archive, gzip.compress(b"no tar" * 999))),
    Case("cifar10, no such folder", partial(elsewhere, "nowhere")),
    Case("cifar10, empty folder", partial(elsewhere, "empty")),
    Case("cifar10, a file for a folder", partial(elsewhere, "file")),
    Case("cifar10, bytes for pickles", partial(pickled, b"\x80\x02}q\x00(oops")),
    Case("cifar10, a pickle that runs a command", partial(pickled, {b"data": Command(), b"labels": [0]})),
    Case("cifar10, a pickle without labels", partial(pickled, {b"data": np.zeros((2, 3072), np.uint8)})),
    Case("cifar10, a pickle of NaN", partial(pickled, {b"data": np.full((10, 3072), np.nan), b"labels": [0] * 10})),
)

# --------------------------------------------------------------------------------------------------------------- MNIST


def idx(values: np.ndarray, kind: int = 0x08, shape: tuple[int, ...] | None = None) -> bytes:
    """A file of the idx format; `shape` is what its header says."""
    shape = values.shape if shape is None else shape
    return struct.pack(">I", (kind << 8) + len(shape)) + struct.pack(f">{len(shape)}I", *shape) + values.tobytes()


def mnist(changes: dict[str, Any], side: tuple[int, int], folder: Path, draw: random.Random) -> Args:
    """The four files with random images; `changes` has another content for some, or None for no file."""
    numbers = np.random.default_rng(draw.randrange(2**32))
    contents: dict[str, Any] = {}
    for name, count in MNIST.items():
        shape = (count, *side) if "images" in name else (count,)
        contents[name] = idx(numbers.integers(0, 10, shape, np.uint8))
    for name, change in changes.items():
        plain = name.removesuffix(".gz")
        content = change(contents.pop(plain)) if callable(change) else (contents.pop(plain), change)[1]
        contents[name] = content
    for name, content in contents.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return ["--config.data.name=mnist", f"--config.data.dir={folder}"]


IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = MNIST
ONES = partial(np.ones, dtype=np.uint8)
SIDE = (28, 28)
MNIST_CHANGES: tuple[tuple[str, dict[str, Any], bool | None], ...] = (
    ("sound", {}, True),
    ("gzipped", {f"{IMAGES}.gz": gzip.compress, f"{TEST_LABELS}.gz": gzip.compress}, True),
    *((f"no {name}", {name: None}, False) for name in MNIST),
    ("labels for images", {IMAGES: idx(ONES(40))}, False),
    ("images for labels", {LABELS: idx(ONES((40, 28, 28)))}, False),
    ("zeros for a magic number", {IMAGES: lambda b: bytes(4) + b[4:]}, False),
    ("floats, all NaN", {IMAGES: idx(np.full((40, 28, 28), np.nan, ">f4"), kind=0x0D)}, False),
    ("cut images", {IMAGES: lambda b: b[:-1]}, False),
    ("cut labels", {TEST_LABELS: lambda b: b[:11]}, False),
    ("cut header", {TEST_IMAGES: lambda b: b[:9]}, False),
    ("a byte too many", {LABELS: lambda b: b + b"\0"}, False),
    ("empty images", {IMAGES: b""}, False),
    ("empty gzip", {f"{LABELS}.gz": gzip.compress(b"")}, False),
    ("empty .gz", {f"{IMAGES}.gz": b""}, False),
    ("cut gzip", {f"{IMAGES}.gz": lambda b: gzip.compress(b)[:-20]}, False),
    ("gzip with another checksum", {f"{IMAGES}.gz": lambda b: gzip.compress(b)[:-8] + bytes(8)}, False),
    ("damaged gzip", {f"{IMAGES}.gz": lambda b: gzip.compress(b)[:50] + b"x" * 50 + gzip.compress(b)[100:]}, False),
    ("gzip under a plain name", {IMAGES: gzip.compress}, False),
    ("plain under a gzip name", {f"{IMAGES}.gz": lambda b: b}, False),
    ("a text", {TEST_IMAGES: b"<html>404</html>"}, False),
    ("no image", {IMAGES: idx(ONES((0, 28, 28))), LABELS: idx(ONES(0))}, False),
    ("images of no pixels", {IMAGES: idx(ONES((40, 0, 28)))}, False),
    ("a header that promises everything", {IMAGES: idx(ONES((40, 28, 28)), shape=(2**32 - 1,) * 3)}, False),
    ("label 10", {LABELS: lambda b: b[:-1] + b"\x0a"}, False),
    ("label 255 in the test set", {TEST_LABELS: lambda b: b[:8] + b"\xff" + b[9:]}, False),
    ("a label too few", {LABELS: idx(ONES(39))}, False),
    ("one image", {IMAGES: idx(ONES((1, 28, 28))), LABELS: idx(ONES(1))}, True),
    ("a test set of another size", {TEST_IMAGES: idx(ONES((20, 20, 20)))}, False),
)
MNIST_CASES = (
    *(Case(f"mnist, {name}", partial(mnist, changes, SIDE), usable) for name, changes, usable in MNIST_CHANGES),
    Case("mnist, not square", partial(mnist, {}, (28, 20)), True),
    Case("mnist, of one pixel", partial(mnist, {}, (1, 1)), None),
)

# -------------------------------------------------------------------------------------------------------- image folders


def image(shape: tuple[int, ...] = (8, 8), mode: str = "L", form: str = "PNG", **more: Any) -> bytes:
    """An encoded image of random values."""
    from PIL import Image

    channels = {"L": 1, "1": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "P": 1, "I;16": 1, "F": 1}[mode]
    numbers, kind = np.random.default_rng(0), {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
    values = numbers.integers(0, 255, (*shape, channels)).astype(kind)
    if mode == "F":
        values[0, 0] = np.nan
    made = Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode if mode in ("CMYK", "F") else None)
    file = io.BytesIO()
    (made.convert(mode) if mode in ("1", "P") else made).save(file, form, **more)
    return file.getvalue()


def folder_of(files: Callable[[], dict[str, bytes | None]], more: Args, folder: Path, draw: random.Random) -> Args:  # noqa: ARG001
    """A folder of these files; None is a folder, and text a link."""
    for name, content in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif content.startswith(b"-> "):
            path.symlink_to(content[3:].decode())
        else:
            path.write_bytes(content)
    return [f"--config.data.name=folder:{folder}", *more]


def many(count: int = 40, start: str = "", **how: Any) -> dict[str, bytes | None]:
    """So many images of one kind."""
    content = image(**how)
    return {f"{start}{i:03}.png": content for i in range(count)}


def patched(at: int, new: bytes) -> bytes:
    """A PNG with other bytes at a place."""
    plain = image()
    return plain[:at] + new + plain[at + len(new) :]


BOMB = patched(16, struct.pack(">II", 60_000, 60_000))
"""Its header says 3.6 billion pixels (and its checksum is another)."""
FOLDERS: tuple[tuple[str, Callable[[], dict[str, bytes | None]], Args, bool | None], ...] = (
    ("sound", many, [], True),
    ("empty", dict, [], False),
    ("no image", lambda: {"notes.txt": b"none"}, [], False),
    ("hidden images", lambda: many(start="."), [], False),
    ("a text named .png", lambda: many() | {"007.png": b"no image"}, [], False),
    ("a web page named .jpg", lambda: many() | {"007.jpg": b"<html></html>"}, [], False),
    ("an empty file", lambda: many() | {"007.png": b""}, [], False),
    ("zeros", lambda: many() | {"007.png": bytes(999)}, [], False),
    ("a cut PNG", lambda: many() | {"007.png": image()[:-30]}, [], False),
    ("a cut PNG among the held-out", lambda: many() | {"019.png": image()[:-30]}, [], False),
    ("a PNG cut in its header", lambda: many() | {"007.png": image()[:20]}, [], False),
    ("a cut JPEG", lambda: many() | {"007.jpg": image(form="JPEG")[:-120]}, [], False),
    ("a cut PNG, streamed", lambda: many() | {"007.png": image()[:-30]}, ["--config.data.resident_mb=0"], False),
    ("a PNG with damaged data", lambda: many() | {"007.png": patched(45, b"\xff\xff\xff\xff")}, [], False),
    ("a PNG with a damaged header", lambda: many() | {"007.png": patched(16, b"\xff\xff\xff\xff")}, [], False),
    ("a PNG of 0 pixels", lambda: many() | {"007.png": patched(16, bytes(8))}, [], False),
    ("a PNG that says it is enormous", lambda: many() | {"007.png": BOMB}, [], False),
    ("enormous ones, resized", lambda: {f"{i}.png": BOMB for i in range(40)}, ["--config.data.size=8"], False),
    ("one image", lambda: many(1), [], False),
    ("19 images", lambda: many(19), [], False),
    ("20 images", lambda: many(20), [], True),
    ("two sizes", lambda: many() | {"007.png": image((8, 9))}, [], False),
    ("two sizes, resized", lambda: many() | {"007.png": image((8, 9))}, ["--config.data.size=8"], True),
    ("not square", lambda: many(shape=(8, 12)), [], True),
    ("a width that does not halve", lambda: many(shape=(8, 9)), ["--config.net.multipliers=1,1"], False),
    ("a height that does not halve", lambda: many(shape=(9, 8)), ["--config.net.multipliers=1,1"], False),
    ("extremely wide, resized", lambda: many(shape=(1, 5000)), ["--config.data.size=8"], None),
    ("one pixel each", lambda: many(shape=(1, 1)), [], None),
    ("resized to one pixel", many, ["--config.data.size=1"], None),
    ("resized to an odd size", many, ["--config.data.size=7", "--config.net.multipliers=1,1"], False),
    ("grey among colours", lambda: many(mode="RGB") | {"007.png": image()}, [], True),
    ("a colour among greys", lambda: many() | {"007.png": image(mode="RGB")}, [], True),
    ("RGBA", lambda: many(mode="RGBA"), [], True),
    ("grey with alpha", lambda: many(mode="LA"), [], True),
    ("palettes", lambda: many(mode="P"), [], True),
    ("black and white", lambda: many(mode="1"), [], True),
    ("CMYK", lambda: {f"{i}.jpg": image(mode="CMYK", form="JPEG") for i in range(40)}, [], True),
    ("16 bits", lambda: many(mode="I;16"), [], False),
    ("one of 16 bits", lambda: many() | {"007.png": image(mode="I;16")}, [], False),
    ("floats with NaN", lambda: many() | {"007.png": image(mode="F", form="TIFF")}, [], False),
    ("other formats under .png", lambda: many() | {"007.png": image(form="BMP")}, [], True),
    ("a folder named .png", lambda: many() | {"x.png": None}, [], True),
    ("a link to nowhere", lambda: many() | {"x.png": b"-> nowhere"}, [], False),
    ("a link to itself", lambda: many() | {"x.png": b"-> x.png"}, [], False),
    ("a line break in a name", lambda: many() | {"a\nb.png": b"no image"}, [], False),
    ("a name that is no text", lambda: many() | {os.fsdecode(b"\xff\xfe.png"): b"no image"}, [], False),
    ("train without test", lambda: many(start="train/"), [], True),
    ("train and test", lambda: many(start="train/") | many(4, "test/"), [], True),
    ("an empty test", lambda: many(start="train/") | {"test": None}, [], False),
    ("test of another size", lambda: many(start="train/") | many(4, "test/", shape=(6, 6)), [], False),
    ("classes", lambda: many(start="a/") | many(start="b/"), ["--config.net.class_conditional"], True),
    ("no classes", many, ["--config.net.class_conditional"], False),
    ("classes and a stray", lambda: many(start="a/") | many(1) | many(start="b/"), [], True),
)
FOLDER_CASES = tuple(
    Case(f"folder, {name}", partial(folder_of, files, more), usable) for name, files, more, usable in FOLDERS
)

CASES = (*CIFAR_CASES, *MNIST_CASES, *FOLDER_CASES)
