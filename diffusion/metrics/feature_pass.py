"""One pass of a feature extractor over a set of images, for all metrics that want its features."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.source import Source
from diffusion.metrics import reference_statistics
from diffusion.metrics.features import Extractor
from diffusion.metrics.frechet import Moments, Stream
from diffusion.metrics.partial_results import Kept
from diffusion.metrics.sample_set import SampleSet, at_once

CHUNK = 1000
"""Images whose features are kept in one file until the pass is done."""

Progress = Callable[[str, int], Any]
"""(what, total) -> a context that gives a function which is told how many images are done."""


class Features(NamedTuple):
    """What one pass leaves of each layer."""

    moments: dict[str, Stream]
    """Layer -> mean and covariance, in float64."""
    vectors: dict[str, np.ndarray]
    """Layer -> all vectors, float32 [n, D]: for metrics that compare images with images."""


def one_pass(
    extractor: Extractor,
    images: SampleSet,
    moments: Collection[str],
    vectors: Collection[str],
    folder: Path,
    progress: Progress,
    what: str,
) -> Features:
    """The moments of some layers and the vectors of others, of all images of a set.

    Features of each finished chunk are kept in `folder`, named by its pixels, the layers and the weights, until the
    pass is done: an interrupted one goes on. Memory: one chunk, D^2 for each of `moments`, n D for each of `vectors`.
    Raises ValueError where a feature is not finite.
    """
    layers = sorted({*moments, *vectors})
    streams = {layer: Stream() for layer in moments}
    arrays: dict[str, np.ndarray] = {}
    files, done = [], 0
    with progress(what, images.n) as told:
        told(0)
        for pixels in images.chunks(CHUNK):
            found, kept = _features(extractor, layers, pixels, folder)
            files.append(kept)
            for layer, stream in streams.items():
                stream.add(found[layer])
            for layer in vectors:
                if layer not in arrays:
                    arrays[layer] = np.empty((images.n, found[layer].shape[1]), np.float32)
                arrays[layer][done : done + len(pixels)] = found[layer]
            done += len(pixels)
            told(done)
    for kept in files:
        kept.remove()
    return Features(streams, arrays)


def _features(
    extractor: Extractor, layers: list[str], pixels: np.ndarray, folder: Path
) -> tuple[dict[str, np.ndarray], Kept]:
    """The features of a chunk, from its file if it is there, and the file."""
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    key = {"network": extractor.name, "weights": extractor.weights, "layers": layers, "pixels": digest}
    kept = Kept(folder, "features", {**key, "shape": list(pixels.shape)})
    found = kept.load()
    if not found:
        everything = extractor.extract(pixels)
        found = {layer: np.asarray(everything[layer], np.float32) for layer in layers}
        kept.save(found)
    return found, kept


class Real:
    """Features of the first n images of a data set, from the user's cache or in one pass that fills it."""

    def __init__(
        self,
        extractor: Extractor,
        source: Source,
        split: str,
        n: int,
        resize: str,
        moments: Collection[str],
        vectors: Collection[str],
        folder: Path,
        progress: Progress,
    ):
        self.facts = {"data": source.name, "split": split, "images": n}
        """What a result says of them."""
        key = {**self.facts, "pixels": fingerprint(source), "resize": resize, "network": extractor.name}
        key |= {"weights": extractor.weights}
        passes: list[Features] = []

        def features() -> Features:
            if not passes:
                passes.append(one_pass(extractor, _first(source, n), moments, vectors, folder, progress, "reference"))
            return passes[0]

        def mean_and_covariance(layer: str) -> Moments:
            ours = {**key, "layer": layer, "kind": "moments"}
            return reference_statistics.moments(ours, None, lambda: features().moments[layer].moments())

        def all_vectors(layer: str) -> np.ndarray:
            ours = {**key, "layer": layer, "kind": "vectors"}
            return reference_statistics.cached(ours, None, lambda: {"vectors": features().vectors[layer]})["vectors"]

        self.moments = {layer: mean_and_covariance(layer) for layer in moments}
        self.vectors = {layer: all_vectors(layer) for layer in vectors}


def _first(source: Source, n: int) -> SampleSet:
    many = at_once(source.shape)

    def blocks() -> Iterator[np.ndarray]:
        for i in range(0, n, many):
            yield source.read(np.arange(i, min(i + many, n)))[0]

    return SampleSet(n, source.shape, blocks)


def fingerprint(source: Source) -> str:
    """A digest of some images spread over a data set, which tells it from others of its name."""
    index = np.unique(np.linspace(0, source.size - 1, 64).astype(np.int64))
    return f"{hashlib.sha256(source.read(index)[0].tobytes()).hexdigest()[:16]}_{source.size}"
