"""A classifier of small labelled images: its features are what `fd_digits` and its like are measured in.

A distance in these features is computed like an FID and is none: an FID is measured in the features of one published
network, trained on photographs, which does not separate 8x8 digits well.
"""

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from diffusion.config.config_dict import placeless
from diffusion.data.dataset_interface import Source
from diffusion.metrics import cache_on_disk
from diffusion.runtime.paths import cache_folder

HIDDEN = (128, 64)
"""Widths of the hidden layers; the last one's activations are the features."""

EPOCHS = 50
SEED = 0
MOST = 10_000
"""Upper limit of the training images, and of the held-out images that the accuracy is measured on."""


class Classifier(NamedTuple):
    """A perceptron on pixels in [-1, 1], as plain arrays; all layers but the last end in a ReLU."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    labels: np.ndarray
    """[K]: the label of each output; K is the number of labels that occur in the training images."""

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Activations of the last hidden layer, float64 [n, 64], of uint8 images [n, H, W, C]."""
        x = pixels.reshape(len(pixels), -1) / 127.5 - 1
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0.0)
        return x

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """p(label | image), float64 [n, K], columns in the order of `labels`."""
        logits = self.features(pixels) @ self.weights[-1] + self.biases[-1]
        return softmax(logits, axis=1)

    def classes(self, pixels: np.ndarray) -> np.ndarray:
        """The most likely label of each image."""
        return self.labels[self.probabilities(pixels).argmax(axis=1)]

    def accuracy(self, held_out: Source) -> float:
        """The share of held-out images, at most 10,000, whose most likely label is theirs."""
        pixels, labels = held_out.read(np.arange(min(held_out.size, MOST)))
        return float((self.classes(pixels) == labels).mean())

    def digest(self) -> str:
        """SHA-256 of the weights, hex: scores in these features carry it in their protocol."""
        arrays = [np.ascontiguousarray(array, "<f8") for layers in (self.weights, self.biases) for array in layers]
        return hashlib.sha256(b"".join(repr(a.shape).encode() + a.tobytes() for a in arrays)).hexdigest()


def features(model: Classifier, source: Source, n: int | None = None) -> np.ndarray:
    """The features of the first n images of a data set, by default all."""
    return model.features(source.read(np.arange(source.size if n is None else min(n, source.size)))[0])


def classifier(train: Source, cache: Path | None = None) -> Classifier:
    """The classifier of a data set: trained once on at most 10,000 of its training images, then read from `cache`.

    `cache` is a folder, by default diffusion/classifiers in the user's cache. Everything random in the training follows
    from a fixed seed; the file's key holds images, labels and recipe. Raises ValueError where the data set has no
    labels.
    """
    if not train.classes:
        raise ValueError(f"{train.name} has no labels to train a classifier on")
    index = np.sort(np.random.default_rng(SEED).permutation(train.size)[:MOST])
    pixels, labels = train.read(index)
    images = hashlib.sha256(pixels.tobytes() + labels.astype(np.int32).tobytes()).hexdigest()
    key = {"images": images, "shape": list(pixels.shape), "recipe": [*HIDDEN, EPOCHS, SEED]}
    path = cache_on_disk.place(cache or cache_folder("classifiers"), slug(train), key)
    arrays = cache_on_disk.cached(path, lambda: _trained(pixels, labels))
    weights, biases = (tuple(arrays[f"{kind}_{i}"] for i in range(len(HIDDEN) + 1)) for kind in ("weights", "biases"))
    return Classifier(weights, biases, arrays["labels"])


def slug(source: Source) -> str:
    """The name of a data set, as part of a file name or of a metric's name; of a folder without its place."""
    return re.sub(r"\W+", "_", placeless("data.name", source.name)).strip("_")


def _trained(pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a classifier of these images."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    # Always all epochs: nothing depends on when a plateau is seen.
    epochs: Any = dict(max_iter=EPOCHS, n_iter_no_change=EPOCHS)
    recipe: Any = dict(alpha=1e-3, batch_size=min(200, len(pixels)), random_state=SEED, **epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier(HIDDEN, **recipe).fit(pixels.reshape(len(pixels), -1) / 127.5 - 1, labels)
    weights, biases = [*model.coefs_], [*model.intercepts_]
    if len(model.classes_) < 3:  # the library's one logit z of the second of two labels, as the pair (0, z)
        weights[-1], biases[-1] = np.pad(weights[-1], ((0, 0), (1, 0))), np.pad(biases[-1], (1, 0))
    arrays = {f"weights_{i}": array for i, array in enumerate(weights)}
    arrays |= {f"biases_{i}": array for i, array in enumerate(biases)}
    return {**arrays, "labels": np.asarray(model.classes_)}
