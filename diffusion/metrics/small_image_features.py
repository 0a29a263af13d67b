"""A score for small labelled images: the Fréchet distance in the features of a classifier of that very data set.

It is computed like an FID but is none: an FID is measured in the features of one published network, trained on
photographs, which see little in 8x8 digits. Distances here compare sample sets of the same data set under the same
classifier, and with the distance of as many held-out real images, given beside them as the floor.
"""

import hashlib
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.source import Source
from diffusion.metrics import frechet
from diffusion.runtime.files import cache_folder, write_npz

HIDDEN = (128, 64)
"""Widths of the hidden layers; the last one's activations are the features."""

EPOCHS = 50
SEED = 0
MOST = 10_000
"""Real images that the classifier is trained on, at most."""

CHUNK = 10_000


class Classifier(NamedTuple):
    """A perceptron on pixels in [-1, 1], as plain arrays; all layers but the last end in a ReLU."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Activations of the last hidden layer, float64 [n, 64], of uint8 images [n, H, W, C]."""
        x = pixels.reshape(len(pixels), -1) / 127.5 - 1
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0.0)
        return x

    def classes(self, pixels: np.ndarray) -> np.ndarray:
        """The most likely class of each image."""
        return self.extract(pixels)["logits"].argmax(axis=1)

    def extract(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Features by layer of uint8 images [n, H, W, C], float64: "64", which is `features`, and "logits"."""
        hidden = self.features(pixels)
        return {str(hidden.shape[1]): hidden, "logits": hidden @ self.weights[-1] + self.biases[-1]}

    def digest(self) -> str:
        """SHA-256 of the weights, hex: what scores in these features are stamped with."""
        arrays = [np.ascontiguousarray(array, "<f8") for layers in self for array in layers]
        return hashlib.sha256(b"".join(repr(a.shape).encode() + a.tobytes() for a in arrays)).hexdigest()


class Score(NamedTuple):
    """How far samples are from the real training images, and how far held-out real ones are."""

    name: str
    """fd_ and the name of the data set."""
    value: float
    samples: int
    """Images that `value` is measured on; distances shrink as they grow in number, so only equal numbers compare."""
    floor: float
    """The same distance of held-out real images."""
    floor_images: int
    """Images that `floor` is measured on: as many as samples, or all that there are."""
    reference: int
    """Real training images on the other side of both."""
    accuracy: float
    """Of the classifier on held-out real images."""

    def report(self) -> dict[str, float]:
        """The numbers, for a JSON file."""
        rest = {f"{self.name}_{key}": value for key, value in self._asdict().items() if not isinstance(value, str)}
        return {self.name: rest.pop(f"{self.name}_value"), **rest}

    def line(self) -> str:
        """The score for a console report."""
        return (
            f"{self.name:11} {self.value:.2f} for {self.samples} samples, {self.floor:.2f} for {self.floor_images} "
            f"held-out images: Fréchet distance to {self.reference} training images in the features of a classifier "
            f"of this data (no FID)"
        )


def score(train: Source, test: Source, samples: np.ndarray, cache: Path | None = None) -> Score:
    """The Fréchet distance of uint8 samples [n, H, W, C] from all training images, in features of their classifier.

    `cache` is the folder that keeps classifiers, by default one in the user's cache. Raises ValueError where the data
    set has no labels, and for fewer than two samples.
    """
    model = classifier(train, cache)
    index = np.arange(train.size)
    parts = [model.features(train.read(index[i : i + CHUNK])[0]) for i in range(0, train.size, CHUNK)]
    reference = frechet.moments(np.concatenate(parts))
    real, labels = test.read(np.arange(min(test.size, MOST)))
    held_out = real[: len(samples)]
    return Score(
        name=f"fd_{_slug(train)}",
        value=frechet.distance(frechet.moments(model.features(samples)), reference),
        samples=len(samples),
        floor=frechet.distance(frechet.moments(model.features(held_out)), reference),
        floor_images=len(held_out),
        reference=train.size,
        accuracy=float((model.classes(real) == labels).mean()),
    )


def classifier(train: Source, cache: Path | None = None) -> Classifier:
    """The classifier of a data set: trained once on at most 10,000 of its training images, then read from `cache`.

    Everything random in its training follows from a fixed seed. The file is named by a hash of images, labels and
    recipe, so another data set, or another recipe, is another classifier; one that cannot be read is trained again. A
    folder that cannot be written costs the training, not the result. Raises ValueError where the data set has no
    labels.
    """
    if not train.classes:
        raise ValueError(f"{train.name} has no labels to train a classifier on")
    index = np.sort(np.random.default_rng(SEED).permutation(train.size)[:MOST])
    pixels, labels = train.read(index)
    path = (cache or cache_folder("classifiers")) / f"{_name(train, pixels, labels)}.npz"
    try:
        with np.load(path) as file:
            layers = len(file.files) // 2
            return Classifier(*(tuple(file[f"{kind}_{i}"] for i in range(layers)) for kind in Classifier._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        model = _train(pixels, labels)
    try:
        _save(path, model)
    except OSError as error:
        warnings.warn(f"the classifier of {train.name} could not be kept in {path.parent} ({error})", stacklevel=2)
    return model


def _train(pixels: np.ndarray, labels: np.ndarray) -> Classifier:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    # Always all epochs: nothing depends on when a plateau is seen.
    epochs: Any = dict(max_iter=EPOCHS, n_iter_no_change=EPOCHS)
    recipe: Any = dict(alpha=1e-3, batch_size=min(200, len(pixels)), random_state=SEED, **epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier(HIDDEN, **recipe).fit(pixels.reshape(len(pixels), -1) / 127.5 - 1, labels)
    return Classifier(tuple(model.coefs_), tuple(model.intercepts_))


def _name(train: Source, pixels: np.ndarray, labels: np.ndarray) -> str:
    """A file name that tells the data set and, by a hash, what exactly the classifier is trained on and how."""
    recipe = (pixels.shape, train.classes, HIDDEN, EPOCHS, SEED)
    digest = hashlib.sha256(repr(recipe).encode() + pixels.tobytes() + labels.astype(np.int32).tobytes())
    return f"{_slug(train)}-{digest.hexdigest()[:16]}"


def _slug(train: Source) -> str:
    return re.sub(r"\W+", "_", train.name)


def _save(path: Path, model: Classifier) -> None:
    write_npz(path, {f"{kind}_{i}": a for kind, layers in model._asdict().items() for i, a in enumerate(layers)})
