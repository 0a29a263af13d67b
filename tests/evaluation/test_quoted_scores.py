"""Metrics in Inception's features as results report them: settings, argument order, remarks."""

from typing import Any

import numpy as np
import pytest

from diffusion.data.dataset_interface import in_memory
from diffusion.evaluation import guidance_effect, sample_quality
from diffusion.metrics import frechet, small_image_classifier
from diffusion.metrics.feature_statistics import Features
from diffusion.metrics.inception_score import inception_score
from diffusion.metrics.kernel_distance import kid
from diffusion.metrics.precision_recall import precision_recall
from diffusion.metrics.small_image_classifier import Classifier


def compared(name: str, fake: np.ndarray, real: np.ndarray, seed: int = 0, **sizes: Any) -> sample_quality.Compared:
    layer = sample_quality.INCEPTION[name].layer
    samples, reference = (Features({layer: frechet.moments(x)}, {layer: x}) for x in (fake, real))
    c = sample_quality.Compared(name, layer, samples, reference, len(fake), len(real), seed)
    return c._replace(**sizes)


@pytest.fixture
def sets(rng):
    """Samples of half of the spread of the real images: precise, and without recall."""
    return 0.5 * rng.normal(size=(60, 3)), rng.normal(size=(90, 3))


def test_precision_is_that_of_the_samples_with_three_neighbours(sets):
    fake, real = sets
    score = sample_quality.INCEPTION["precision_recall"].measure(compared("precision_recall", fake, real))
    expected = precision_recall(real, fake, 3)
    assert tuple(score.values[name] for name in ("precision", "recall")) == expected
    assert expected[0] > expected[1] + 0.2 and expected != precision_recall(real, fake, 5), "the case tells nothing"
    assert score.facts["k"] == 3 and "k = 3" in score.lines[0]


def test_unequal_sets_are_reported(sets):
    measure = sample_quality.INCEPTION["precision_recall"].measure
    assert "60 samples and 90 real images" in measure(compared("precision_recall", *sets)).lines[0]
    assert "samples" not in measure(compared("precision_recall", sets[0], sets[1][:60])).lines[0]


def test_kid_is_of_100_subsets_of_1000_and_quotes_its_seed(rng, monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args[2:])
        return kid(args[0], args[1], 2, *args[3:])  # two subsets are enough for their size and seed

    monkeypatch.setattr(sample_quality.kernel_distance, "kid", counted)
    fake, real = rng.normal(size=(1010, 2)), rng.normal(size=(1020, 2))
    score = sample_quality.INCEPTION["kid"].measure(compared("kid", fake, real, seed=7))
    assert calls == [(100, 1000, 7)] and score.values["mean"] == kid(fake, real, 2, 1000, 7)[0]
    assert score.facts == {"layer": "2048", "subsets": 100, "subset_size": 1000, "subset_seed": 7}


def test_inception_score_is_that_of_ten_splits(rng):
    logits = rng.normal(size=(40, 5))
    score = sample_quality.INCEPTION["inception_score"].measure(compared("inception_score", logits, logits))
    assert (score.values["mean"], score.values["std"]) == inception_score(logits, 10) != inception_score(logits, 5)
    assert score.values["mean_1"] == inception_score(logits, 1)[0] and score.facts["splits"] == 10


def test_fid_reports_few_samples_and_few_references(sets):
    measure = sample_quality.INCEPTION["fid"].measure
    few = measure(compared("fid", *sets)).lines[0]
    assert "of 60 samples, not 50,000" in few and "90 reference images, fewer than 50,000" in few
    full = measure(compared("fid", *sets, n=50_000, n_real=50_000))
    assert list(full.values) == ["fid"] and "(" not in full.lines[0]
    half = measure(compared("fid", *sets, n=50_000, n_real=30_000)).lines[0]
    assert half.endswith("(30000 reference images, fewer than 50,000)")


def test_the_effect_of_guidance_is_measured_beside_real_images(monkeypatch):
    """A classifier whose feature is the level of a pixel: samples have a third of the spread of real images."""
    model = Classifier((np.eye(1), np.array([[-9.0, 9.0]])), (np.ones(1), np.array([9.0, -9.0])), np.array([0, 1]))
    real = np.array([0, 60, 195, 255], np.uint8).reshape(4, 1, 1, 1)
    source = in_memory("levels", real, np.array([0, 0, 1, 1]), 2)
    samples = np.array([0, 20, 235, 255, 250], np.uint8).reshape(5, 1, 1, 1)
    labels = np.array([0, 0, 1, 1, 0])
    monkeypatch.setattr(guidance_effect, "MOST_OF_A_CLASS", 2)
    effect = guidance_effect.effect(model, source, samples, labels)
    assert effect["accuracy"] == 4 / 5
    assert effect["diversity"] == pytest.approx(1 / 3)
    moments = [frechet.moments(x.reshape(-1, 1) / 127.5) for x in (samples, real)]
    assert effect["distance"] == pytest.approx(frechet.distance(*moments))
    assert len(small_image_classifier.features(model, source)) == 4
