"""The classifier of small labelled images, and the scores of samples by it."""

import numpy as np
import pytest

from diffusion.data.dataset_interface import in_memory
from diffusion.data.digits import digits as load_digits
from diffusion.metrics.scores_without_inception import classes, distance
from diffusion.metrics.small_image_classifier import Classifier, classifier


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A user's cache for this file: the classifier of all digits is trained once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "diffusion" / "classifiers"


@pytest.fixture(scope="module")
def digits():
    return load_digits(train=True), load_digits(train=False)


def first(source, n: int):
    pixels, labels = source.arrays
    return in_memory(source.name, pixels[:n], labels[:n], source.classes)


# ------------------------------------------------------------------------------------------------------ the classifier


def test_classifier_is_right_on_real_digits(digits, cache):
    train, test = digits
    pixels, labels = test.arrays
    model = classifier(train)
    assert model.accuracy(test) == (model.classes(pixels) == labels).mean() > 0.9
    assert model.accuracy(in_memory("wrong", pixels, (labels + 1) % 10, 10)) < 0.1
    assert model.features(pixels).shape == (test.size, 64) and model.features(pixels).dtype == np.float64
    assert len(list(cache.iterdir())) == 1


def test_digest_distinguishes_classifiers(digits, tmp_path):
    model, same, other = (classifier(first(digits[0], n), tmp_path) for n in (60, 60, 70))
    assert model.digest() == same.digest() != other.digest() and len(model.digest()) == 64


@pytest.mark.parametrize("labels", [tuple(range(10)), (0, 1), (3, 7), (2, 4, 9)])
def test_probabilities_are_those_of_the_library(digits, monkeypatch, tmp_path, labels):
    """Also for two labels, of which the library keeps one logit, and for labels that are not 0..k-1."""
    from sklearn import neural_network

    fitted = []

    class Spy(neural_network.MLPClassifier):
        def fit(self, x, y):
            fitted.append((super().fit(x, y), x))
            return self

    monkeypatch.setattr(neural_network, "MLPClassifier", Spy)
    pixels, of_digits = digits[0].arrays
    chosen = np.isin(of_digits, labels)
    model = classifier(in_memory("digits", pixels[chosen][:200], of_digits[chosen][:200], 10), tmp_path)
    ((library, x),) = fitted
    # Images come to the library in the order of the training set, or the two would not agree.
    np.testing.assert_allclose(model.probabilities(pixels[chosen][:200]), library.predict_proba(x), atol=1e-9)
    assert model.labels.tolist() == list(labels)


@pytest.mark.parametrize("labels", [(0, 1), (1, 0), (3, 7), (5, 2, 11)])
def test_separable_data_are_separated_whatever_their_labels(rng, tmp_path, labels):
    """Images that are dark, grey or bright; their labels need not be 0..k-1."""
    index = np.arange(300) % len(labels)
    pixels = (100 * index[:, None, None, None] + rng.integers(0, 50, (300, 4, 4, 1))).astype(np.uint8)
    source = in_memory("levels", pixels, np.asarray(labels)[index], 12)
    model = classifier(source, tmp_path)
    assert model.accuracy(source) > 0.98
    score = classes(pixels[:100], source, source)
    expected = [int((np.asarray(labels)[index[:100]] == label).sum()) for label in range(12)]
    assert score.series["histogram"] == expected and score.values["present"] == len(labels)


def test_training_is_deterministic_and_cached_by_content(digits, tmp_path):
    train = first(digits[0], 100)
    one, again = (classifier(train, tmp_path / name) for name in ("a", "b"))
    for a, b in zip(one.weights + one.biases, again.weights + again.biases, strict=True):
        np.testing.assert_array_equal(a, b)

    (file,) = (tmp_path / "a").iterdir()
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **{**arrays, "biases_0": np.ones(3)})
    assert classifier(train, tmp_path / "a").biases[0].tolist() == [1, 1, 1], "not read from the cache"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.warns(UserWarning, match="cannot be read and is computed again"):
        np.testing.assert_array_equal(classifier(train, tmp_path / "a").weights[0], one.weights[0])

    pixels, labels = train.arrays
    pixels = pixels.copy()
    pixels[0, 0, 0, 0] ^= 1
    classifier(in_memory("digits", pixels, labels, 10), tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 2


# ---------------------------------------------------------------------------------------------------------- the scores


def test_distance_orders_real_damaged_and_no_digits(digits, rng):
    train, test = digits
    real = test.arrays[0]
    damaged = np.where(rng.random(real.shape) < 0.2, rng.integers(0, 256, real.shape), real).astype(np.uint8)
    noise = rng.integers(0, 256, real.shape).astype(np.uint8)
    sets = (train.arrays[0], real, damaged, noise)
    values = [distance(images, train, test).values["fd_digits"] for images in sets]
    assert values[0] == pytest.approx(0, abs=1e-8)
    assert values[0] < values[1] < 0.5 * values[2] < 0.25 * values[3]


def test_one_held_out_image_has_no_distance(digits, tmp_path, monkeypatch):
    """A folder of twenty images holds one out: the samples of a run on it are scored all the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    train, test = (first(source, n) for source, n in zip(digits, (19, 1), strict=True))
    score = distance(digits[1].arrays[0][:5], train, test)
    assert score.values["fd_digits"] > 0 and np.isnan(score.values["fd_digits_floor"])
    assert score.values["fd_digits_floor_images"] == 1 and "held-out" not in score.lines[0]


def test_distance_comes_with_its_protocol_and_its_floor(digits):
    train, test = digits
    score = distance(test.arrays[0][:100], train, test)
    v = score.values
    assert (v["fd_digits_samples"], v["fd_digits_floor_images"], v["fd_digits_reference"]) == (100, 100, 1500)
    assert v["fd_digits"] == v["fd_digits_floor"] > 0, "the floor is that of as many held-out images as samples"
    assert v["fd_digits_accuracy"] == classifier(train).accuracy(test) < 1
    assert score.lines[0].startswith("fd_digits ") and "no FID" in score.lines[0]
    assert score.facts["features"] == f"classifier of digits {classifier(train).digest()}"
    placed = distance(test.arrays[0][:100], train._replace(name="folder:/home/me/d"), test)
    assert placed.values["fd_folder"] == v["fd_digits"], "the place of a folder is no part of the name of a score"
    many = distance(train.arrays[0][:1000], train, test).values
    assert (many["fd_digits_samples"], many["fd_digits_floor_images"]) == (1000, 297)


def test_distance_needs_labels_and_two_samples(digits):
    train, test = digits
    with pytest.raises(ValueError, match="plain has no labels to train a classifier on"):
        distance(test.arrays[0], in_memory("plain", train.arrays[0]), test)
    with pytest.raises(ValueError, match="at least two feature vectors"):
        distance(test.arrays[0][:1], train, test)
    named = in_memory("tfds:kmnist/x", *first(train, 60).arrays, classes=10)
    assert distance(test.arrays[0][:9], named, test).name == "fd_tfds_kmnist_x"


def test_classes_of_real_digits_are_their_labels(digits, rng):
    train, test = digits
    pixels, labels = test.arrays
    only = pixels[labels == 4]
    score = classes(only, train, test)
    assert score.series["histogram"][4] > 0.9 * len(only) and sum(score.series["histogram"]) == len(only)
    assert score.values["accuracy"] == classifier(train).accuracy(test)
    assert f"right on {score.values['accuracy']:.1%} of held-out" in score.lines[0]
    noise = rng.integers(0, 256, pixels.shape).astype(np.uint8)
    assert classes(noise, train, test).values["confident"] < score.values["confident_real"]


def test_confidence_is_the_share_of_clear_images(monkeypatch):
    """A classifier of one pixel: p = sigmoid(3 x) is above 0.9 from x = 0.733 on, which is level 221."""
    model = Classifier((np.eye(1), np.array([[0.0, 3.0]])), (np.zeros(1), np.zeros(2)), np.array([0, 1]))
    monkeypatch.setattr("diffusion.metrics.scores_without_inception.classifier", lambda train: model)  # noqa: ARG005
    pixels = np.array([0, 128, 200, 220, 221, 255, 240, 230], np.uint8).reshape(8, 1, 1, 1)
    real = in_memory("levels", pixels[:5], np.array([0, 1, 1, 1, 0]), 2)
    values = classes(pixels, real, real).values
    assert values["confident"] == 4 / 8 and values["confident_real"] == 1 / 5 and values["accuracy"] == 4 / 5
