"""Any image data set of TFDS by name, by random access to array_record files: no TensorFlow once they are prepared."""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.data.dataset_interface import Source, hold_out, load
from diffusion.data.image_decoder import decode, resize
from diffusion.runtime.bucket_cache import local_folder
from diffusion.runtime.paths import expanded
from diffusion.runtime.short_error_text import reason

READABLE = "array_record"
TEST_SPLITS = ("test", "validation")
IMAGE, LABEL = "image", "label"


def default_dir() -> Path:
    """Where TFDS keeps prepared sets: $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    given = os.environ.get("TFDS_DATA_DIR")
    return expanded(given) if given else Path(os.path.expanduser("~/tensorflow_datasets"))


def tfds(
    name: str, train: bool, data_dir: str | os.PathLike = "", size: int = 0, crop: int = 0, background: str = "white"
) -> Source:
    """A split of the set `name`, as TFDS writes it: set, set/config, either with :version.

    data_dir: where the prepared sets are ("": TFDS's own default). size, crop, background: as in `image_folder.folder`.
    Split test is the set's test split, unless its labels are hidden, or its validation split, or every 20th example of
    train. Labels are the ClassLabel feature named label, or the only ClassLabel; without one the set has none. Raises
    ValueError; for a set that is not prepared, with the command to run.
    """
    root = expanded(data_dir) if data_dir else default_dir()
    folder = prepared(name, root)
    if folder is None:
        arguments = f"{name!r}, data_dir={str(root)!r}, file_format={READABLE!r}"
        raise ValueError(
            f"tfds:{name}: not prepared as {READABLE} under {root}, which takes TensorFlow (reading it does not); run "
            "once, here or on another machine: pip install tensorflow tensorflow-datasets importlib_resources && "
            f'python -c "import tensorflow_datasets as t; t.builder({arguments}).download_and_prepare()"'
        )
    return read_prepared(folder, name, train, size, crop, background)


def prepared(name: str, root: Path) -> Path | None:
    """The folder of the newest version of a set prepared as array_record below `root`; None if there is none.

    TFDS itself answers slowly and misleadingly here. Raises ValueError if several configs are there and `name` does not
    choose.
    """
    base, _, version = name.partition(":")
    infos = [*(root / base).glob("*/dataset_info.json")] or [*(root / base).glob("*/*/dataset_info.json")]
    wanted = re.compile(re.escape(version) or r"\d+\.\d+\.\d+")
    found = [info.parent for info in infos if wanted.fullmatch(info.parent.name) and READABLE in info.read_text()]
    if len({folder.parent for folder in found}) > 1:
        configs = ", ".join(sorted(f"{base}/{folder.parent.name}" for folder in found))
        raise ValueError(f"tfds:{name}: several configs are prepared; name one of {configs}")
    return max(found, key=lambda folder: [int(number) for number in folder.name.split(".")], default=None)


def read_prepared(
    folder: Path, name: str, train: bool, size: int = 0, crop: int = 0, background: str = "white"
) -> Source:
    """A split of the set whose array_record files are in `folder`."""
    import tensorflow_datasets

    title, folder = f"tfds:{name}", local_folder(folder)
    builder = _checked(folder, lambda: tensorflow_datasets.builder_from_directory(str(folder)))
    image, label, decoders = _features(title, builder.info.features)
    own_test = _checked(folder, lambda: _own_test(builder, label, decoders))
    split = own_test if own_test and not train else "train"
    if split not in builder.info.splits:
        raise ValueError(f"{title}: has no split {split}, only {', '.join(builder.info.splits)}")
    records = _checked(folder, lambda: builder.as_data_source(split, decoders=decoders))
    chosen = np.arange(len(records)) if own_test else hold_out(title, len(records), train)
    if not chosen.size:
        raise ValueError(f"{title}: split {split} in {folder} is empty")
    channels = builder.info.features[image].shape[-1]

    def examples(numbers: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        found = _checked(folder, lambda: records.__getitems__(numbers.tolist()))
        for i, record in zip(numbers, found, strict=True):
            where = f"{title}, example {i} of split {split}"
            pixels, number = record[image], record[label] if label else 0
            if pixels is None or number is None:
                raise ValueError(f"{where}: empty record in {folder}; prepare the set again")
            if isinstance(pixels, bytes):
                pixels = decode(io.BytesIO(pixels), where, channels == 1, size, crop, background)
            elif size:
                pixels = resize(pixels, size, crop)
            if pixels.shape != (shape or pixels.shape):
                raise ValueError(
                    f"{where}: shape {list(pixels.shape)}, but the first has {list(shape)}; "
                    "set a size (--config.data.size) to which all are cropped and resized"
                )
            yield pixels, int(number)

    shape = ()  # not known until the first example is read
    shape = next(examples(chosen[:1]))[0].shape

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = np.empty((len(index), *shape), np.uint8), np.empty(len(index), np.int32)
        for row, example in enumerate(examples(chosen[index])):
            pixels[row], labels[row] = example
        return pixels, labels

    names = tuple(map(str, builder.info.features[label].names)) if label else ()
    files = sorted((path.name, path.stat().st_size) for path in folder.glob(f"*-{split}.*"))
    about = [files, train, len(chosen), shape, crop, background]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    source = load(Source(title, len(chosen), shape, len(names), read, None, names, digest, "file names and sizes"))
    return source._replace(digest="", digest_of="content") if source.arrays else source


def _own_test(builder: Any, label: str | None, decoders: Any) -> str | None:
    """The split that a set holds out itself; not one whose labels are hidden, as -1."""
    for split in (split for split in TEST_SPLITS if split in builder.info.splits):
        records: Any = builder.as_data_source(split, decoders=decoders) if label else []
        if not len(records) or records[0][label] >= 0:
            return split
    return None


def _features(title: str, features: Any) -> tuple[str, str | None, Any]:
    """(image feature, label feature or None, decoders that leave encoded images encoded).

    Images are decoded by `image_decoder.decode`, not by TFDS, which would use OpenCV where it is installed: JPEG
    decoders differ.
    """
    from tensorflow_datasets import decode as decoding
    from tensorflow_datasets import features as kinds

    def is_image(feature: Any) -> bool:
        encoded = isinstance(feature, kinds.Image)
        shape: Any = feature.shape if encoded or isinstance(feature, kinds.Tensor) else ()
        return len(shape) == 3 and feature.np_dtype == np.uint8 and shape[-1] in ((1, 3, 4) if encoded else (1, 3))

    images = [key for key, feature in sorted(features.items()) if is_image(feature)]
    labels = [key for key, feature in features.items() if isinstance(feature, kinds.ClassLabel)]
    if not images:
        raise ValueError(f"{title}: has no feature of uint8 images [H, W, 1 or 3], only {', '.join(sorted(features))}")
    image = IMAGE if IMAGE in images else images[0]
    label = LABEL if LABEL in labels else labels[0] if len(labels) == 1 else None
    return image, label, {image: decoding.SkipDecoding()} if isinstance(features[image], kinds.Image) else None


def _checked(folder: Path, call: Callable[[], Any]) -> Any:
    """call(), with whatever TFDS raises (of any kind, over many lines) as a ValueError of one line."""
    try:
        return call()
    except Exception as error:
        raise ValueError(f"{folder}: TFDS cannot read it ({type(error).__name__}: {reason(error)})") from error
