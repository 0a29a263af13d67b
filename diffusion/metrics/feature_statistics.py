"""One pass of a feature extractor over a set of images, for all metrics that need its features."""

import functools
import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.data.dataset_identity import digest
from diffusion.metrics.cache_on_disk import cached, place
from diffusion.metrics.first_images_of_split import Split
from diffusion.metrics.frechet import Moments, Stream
from diffusion.metrics.inception_features import Extractor
from diffusion.runtime.paths import cache_folder
from diffusion.runtime.progress_bar import Counting

CHUNK = 1000
"""Images whose features are stored in one file until the pass is done."""


class Layers(NamedTuple):
    """Which features of which layers are needed."""

    moments: Collection[str] = ()
    """Layers of which mean and covariance are enough."""
    vectors: Collection[str] = ()
    """Layers of which every image's vector is needed, for metrics that compare images with images."""


class Features(NamedTuple):
    """Features of a set of images."""

    moments: dict[str, Moments]
    """Layer -> mean and covariance, in float64."""
    vectors: dict[str, np.ndarray]
    """Layer -> all vectors, float32 [n, D]."""


def one_pass(
    extractor: Extractor, images: Split, layers: Layers, folder: Path, count: Callable[[int], object]
) -> Features:
    """The requested features of all images of a set.

    Features of each finished chunk are stored in `folder`, named by its pixels, the layers and the weights, until the
    pass is done, so that an interrupted one resumes. Memory: one chunk, D^2 for each layer of moments, n D for each of
    vectors. `count` is called with the number of images done. Raises ValueError where a feature is not finite, and for
    fewer than two images where moments are requested.
    """
    names = sorted({*layers.moments, *layers.vectors})
    streams = {layer: Stream() for layer in layers.moments}
    vectors: dict[str, np.ndarray] = {}
    chunks = []
    count(0)
    for first in range(0, images.n, CHUNK):
        index = np.arange(first, min(first + CHUNK, images.n))
        pixels, _ = images.source.read(index)
        key = {"network": extractor.name, "weights": extractor.weights, "layers": names, "shape": list(pixels.shape)}
        key |= {"pixels": hashlib.sha256(pixels.tobytes()).hexdigest()}
        chunks.append(place(folder, "features", key))
        features = cached(chunks[-1], functools.partial(extractor.extract, pixels))
        for layer, stream in streams.items():
            stream.add(features[layer])
        for layer in layers.vectors:
            if layer not in vectors:
                vectors[layer] = np.empty((images.n, features[layer].shape[1]), np.float32)
            vectors[layer][index] = features[layer]
        count(first + len(index))
    for chunk in chunks:
        chunk.unlink(missing_ok=True)
    return Features({layer: stream.moments() for layer, stream in streams.items()}, vectors)


def of_real(
    extractor: Extractor, real: Split, resize: str, layers: Layers, folder: Path, progress: Counting
) -> Features:
    """Features of real images, from the user's cache, or else in one pass whose results are stored there.

    Nothing is computed where the cache has all of them. It is keyed by the digest of all images of the split.
    """
    key = {"data": digest(real.source), "images": real.n, "resize": resize, "network": extractor.name}
    key |= {"weights": extractor.weights}

    @functools.cache
    def features() -> Features:
        with progress("reference", real.n) as count:
            return one_pass(extractor, real, layers, folder, count)

    def path(kind: str, layer: str) -> Path:
        return place(cache_folder("reference"), kind, {**key, "layer": layer})

    def moments(layer: str) -> Moments:
        return Moments(**cached(path("moments", layer), lambda: features().moments[layer]._asdict()))

    def vectors(layer: str) -> np.ndarray:
        return cached(path("vectors", layer), lambda: {"vectors": features().vectors[layer]})["vectors"]

    return Features(
        {layer: moments(layer) for layer in layers.moments}, {layer: vectors(layer) for layer in layers.vectors}
    )
