"""The Fréchet distance, and the features that small labelled images are scored in."""

import numpy as np
import pytest
from scipy import linalg

from diffusion.data import embedded
from diffusion.data.source import in_memory
from diffusion.metrics import frechet, small_image_features, vectors
from diffusion.metrics.frechet import Moments, Stream, distance, moments


def gaussian(rng, d: int, rank: int | None = None) -> Moments:
    factor = rng.normal(size=(d, rank or d))
    return Moments(rng.normal(size=d), factor @ factor.T, 1000)


def features(rng, n: int, d: int) -> np.ndarray:
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


# ------------------------------------------------------------------------------------------------------- the distance


def test_moments_are_numpys(rng):
    x = features(rng, 50, 4)
    found = moments(x)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-12)
    assert found.n == 50
    single = moments((1000 + x).astype(np.float32))
    assert single.covariance.dtype == np.float64
    np.testing.assert_allclose(single.covariance, np.cov((1000 + x).astype(np.float32).T.astype(float)), rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 16, 64])
def test_distance_agrees_with_the_matrix_root_of_scipy(rng, d):
    for _ in range(5):
        a, b = gaussian(rng, d), gaussian(rng, d)
        cross = np.real(linalg.sqrtm(a.covariance @ b.covariance))
        expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * cross)
        assert distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_distance_of_commuting_covariances_is_that_of_the_deviations(rng):
    axes = linalg.qr(rng.normal(size=(8, 8)))[0]
    std_a, std_b = rng.uniform(0, 3, (2, 8))
    std_a[0] = std_b[1] = 0.0
    mean_a, mean_b = rng.normal(size=(2, 8))
    a, b = (Moments(m, axes @ np.diag(s**2) @ axes.T, 100) for m, s in ((mean_a, std_a), (mean_b, std_b)))
    expected = ((mean_a - mean_b) ** 2).sum() + ((std_a - std_b) ** 2).sum()
    assert distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_distance_of_a_translation_is_its_squared_length(rng):
    x, shift = features(rng, 200, 6), rng.normal(size=6)
    assert distance(moments(x), moments(x + shift)) == pytest.approx((shift**2).sum(), rel=1e-10)
    assert distance(moments(x), moments(3 * x)) == pytest.approx(
        4 * (x.mean(axis=0) ** 2).sum() + 4 * np.trace(np.cov(x.T)), rel=1e-10
    )


def test_distance_is_symmetric_and_a_metric(rng):
    a, b, c = (gaussian(rng, 10) for _ in range(3))
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-10)
    root = [np.sqrt(distance(*pair)) for pair in ((a, b), (b, c), (a, c))]
    assert root[2] < root[0] + root[1] and min(root) > 0


@pytest.mark.parametrize("n", [2, 5, 20, 500])
def test_distance_of_a_set_from_itself_vanishes_whatever_its_rank(rng, n):
    x = 100 * features(rng, n, 20)
    a = moments(x)
    assert np.linalg.matrix_rank(a.covariance) == min(n - 1, 20)
    assert 0 <= distance(a, a) < 1e-10 * np.trace(a.covariance)
    assert 0 <= distance(a, moments(x[rng.permutation(n)])) < 1e-7 * np.trace(a.covariance)


def test_distance_is_finite_without_any_variance(rng):
    point, other = moments(np.ones((3, 4))), gaussian(rng, 4, rank=2)
    assert distance(point, point) == 0.0
    expected = ((1 - other.mean) ** 2).sum() + np.trace(other.covariance)
    assert distance(point, other) == pytest.approx(expected, rel=1e-12)


def test_root_is_the_symmetric_root(rng):
    covariance = gaussian(rng, 7, rank=3).covariance
    root = frechet.root(covariance)
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    np.testing.assert_allclose(root @ root, covariance, atol=1e-12 * np.trace(covariance))


@pytest.mark.parametrize("rank", [3, 7])
def test_factor_is_one_whatever_the_rank(rng, rank):
    covariance = gaussian(rng, 7, rank).covariance
    found = frechet.factor(covariance)
    np.testing.assert_allclose(found @ found.T, covariance, atol=1e-12 * np.trace(covariance))


@pytest.mark.parametrize("n", [50, 2000])
def test_distance_by_either_factor_is_the_same(rng, n, monkeypatch):
    """A falling spectrum as of Inception's features, with and without full rank."""
    scales = np.arange(1, 101) ** -1.5
    a, b = (moments(rng.normal(size=(n, 100)) * scales * factor) for factor in (1, 1.1))
    found = distance(a, b)
    monkeypatch.setattr(frechet, "factor", frechet.root)
    assert distance(a, b) == pytest.approx(found, rel=1e-8)
    cross = linalg.eigvals(a.covariance @ b.covariance)
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance)
    assert found == pytest.approx(expected - 2 * np.sqrt(np.maximum(cross.real, 0)).sum(), rel=1e-6)


def test_what_is_no_set_of_features_is_refused(rng):
    with pytest.raises(ValueError, match=r"at least two feature vectors, got \[1, 3\]"):
        moments(np.ones((1, 3)))
    with pytest.raises(ValueError, match="2 of 4 feature vectors are not finite"):
        moments(np.array([[0.0, 1], [np.nan, 0], [np.inf, 0], [1, 1]]))
    with pytest.raises(ValueError, match="features of 3 and of 4 dimensions"):
        distance(gaussian(rng, 3), gaussian(rng, 4))


# ---------------------------------------------------------------------------------------------------------- the stream


def streamed(*parts: np.ndarray) -> Stream:
    stream = Stream()
    for part in parts:
        stream.add(part)
    return stream


def assert_close(found: Moments, expected: Moments, rel: float = 1e-10) -> None:
    assert found.n == expected.n
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rel, atol=rel)
    scale = np.sqrt(np.outer(*2 * [np.diag(expected.covariance)]))
    np.testing.assert_allclose(found.covariance / scale, expected.covariance / scale, atol=rel)
    np.testing.assert_array_equal(found.covariance, found.covariance.T)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("level", [0.0, 1e3, 1e6])
def test_stream_is_the_batch_however_it_is_cut_and_ordered(rng, size, level):
    x = features(rng, 500, 5) + level
    expected = Moments(x.mean(axis=0), np.cov(x.T), 500)
    order = rng.permutation(500)
    for y in (x, x[::-1], x[order]):
        assert_close(streamed(*(y[i : i + size] for i in range(0, 500, size))).moments(), expected)


def test_stream_cuts_long_parts_itself(rng, monkeypatch):
    x = features(rng, 100, 4)
    expected = moments(x)
    monkeypatch.setattr(vectors, "ROWS", 9)
    assert_close(moments(x), expected)


def test_stream_of_single_precision_far_from_the_origin_keeps_its_digits(rng):
    """Mean 1e3, deviation 1e-2: the sums of squares that a naive stream takes agree in their first ten digits."""
    x = (1e3 + 1e-2 * rng.normal(size=(4000, 6))).astype(np.float32)
    expected = Moments(x.astype(np.longdouble).mean(axis=0).astype(float), np.cov(x.T.astype(float)), 4000)
    assert_close(streamed(*np.array_split(x, 37)).moments(), expected)
    assert_close(moments(x), expected)
    double = x.astype(np.float64)
    naive = (np.square(double).sum(axis=0) - 4000 * double.mean(axis=0) ** 2) / 3999
    assert np.abs(naive / np.diag(expected.covariance) - 1).max() > 1e-8, "the case tells nothing"


def test_streams_merge_in_any_order(rng):
    x = features(rng, 300, 6) + np.linspace(0, 50, 300)[:, None]
    parts = np.split(x, [1, 50, 51, 200])
    expected = Moments(x.mean(axis=0), np.cov(x.T), 300)
    for order in (range(5), rng.permutation(5)):
        whole = Stream()
        for i in order:
            whole.merge(streamed(parts[i]))
        assert_close(whole.moments(), expected)
    left, right, empty = streamed(*parts[:2]), streamed(*parts[2:]), Stream()
    before = right.moments()
    left.merge(right)
    left.merge(empty)
    assert_close(left.moments(), expected)
    np.testing.assert_array_equal(right.moments().covariance, before.covariance)
    twice = streamed(x)
    twice.merge(twice)
    assert_close(twice.moments(), Moments(x.mean(axis=0), np.cov(np.concatenate([x, x]).T), 600))


def test_stream_takes_nothing_in_from_what_it_refuses(rng):
    x = features(rng, 20, 3)
    stream = streamed(x)
    bad = x.copy()
    bad[4, 1] = np.nan
    for part, message in (
        (bad, "1 of 20 feature vectors are not finite"),
        (x[:, :2], "features of 3 and of 2 dimensions cannot be in one stream"),
        (x[0], r"an array \[n, D\], got \[3\]"),
        (np.zeros((5, 0)), r"an array \[n, D\], got \[5, 0\]"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.add(part)
    with pytest.raises(ValueError, match="features of 3 and of 2 dimensions"):
        stream.merge(streamed(x[:, :2]))
    stream.add(x[:0])
    np.testing.assert_array_equal(stream.moments().covariance, moments(x).covariance)
    with pytest.raises(ValueError, match="at least two feature vectors, got 1"):
        streamed(x[:1]).moments()
    with pytest.raises(ValueError, match="at least two feature vectors, got 0"):
        Stream().moments()


def test_moments_are_no_view_of_the_stream(rng):
    x = features(rng, 20, 3)
    stream = streamed(x)
    found = stream.moments()
    stream.add(10 + x)
    np.testing.assert_array_equal(found.mean, moments(x).mean)


# -------------------------------------------------------------------------------------------------------- the features


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def digits():
    return embedded.digits(train=True), embedded.digits(train=False)


def some(source, n: int):
    pixels, labels = source.arrays
    return in_memory(source.name, pixels[:n], labels[:n], source.classes)


def test_classifier_is_right_on_real_digits(digits, cache):
    train, test = digits
    pixels, labels = test.arrays
    model = small_image_features.classifier(train, cache)
    assert (model.classes(pixels) == labels).mean() > 0.9
    assert model.features(pixels).shape == (test.size, 64) and model.features(pixels).dtype == np.float64
    layers = model.extract(pixels)
    assert list(layers) == ["64", "logits"] and layers["logits"].shape == (test.size, 10)
    np.testing.assert_array_equal(layers["64"], model.features(pixels))


def test_digest_tells_classifiers_apart(digits, tmp_path):
    model, same, other = (small_image_features.classifier(some(digits[0], n), tmp_path) for n in (60, 60, 70))
    assert model.digest() == same.digest() != other.digest() and len(model.digest()) == 64


def test_features_are_those_of_the_library(digits, monkeypatch, tmp_path):
    """The outputs computed from our features are the library's own probabilities."""
    from sklearn import neural_network

    fitted = []

    class Spy(neural_network.MLPClassifier):
        def fit(self, x, y):
            fitted.append((super().fit(x, y), x))
            return self

    monkeypatch.setattr(neural_network, "MLPClassifier", Spy)
    train = some(digits[0], 200)
    model = small_image_features.classifier(train, tmp_path)
    ((theirs, x),) = fitted
    logits = model.features(train.arrays[0]) @ model.weights[-1] + model.biases[-1]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    # Images come to the library in the order of the training set, or the two would not agree.
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), theirs.predict_proba(x), atol=1e-9)


def test_training_is_deterministic_and_cached_by_content(digits, tmp_path):
    train = some(digits[0], 100)
    first, again = (small_image_features.classifier(train, tmp_path / name) for name in ("a", "b"))
    for a, b in zip(first.weights + first.biases, again.weights + again.biases, strict=True):
        np.testing.assert_array_equal(a, b)

    (file,) = (tmp_path / "a").iterdir()
    np.savez(file, weights_0=np.zeros(3), biases_0=np.ones(3))
    assert small_image_features.classifier(train, tmp_path / "a").biases[0].tolist() == [1, 1, 1], (
        "not read from the cache"
    )
    for damage in (b"", b"nonsense", file.read_bytes()[:200]):
        file.write_bytes(damage)
        np.testing.assert_array_equal(
            small_image_features.classifier(train, tmp_path / "a").weights[0], first.weights[0]
        )

    pixels, labels = train.arrays
    pixels = pixels.copy()
    pixels[0, 0, 0, 0] ^= 1
    small_image_features.classifier(in_memory("digits", pixels, labels, 10), tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_no_result(digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept"):
        model = small_image_features.classifier(some(digits[0], 50), tmp_path / "file")
    assert np.isfinite(model.features(digits[1].arrays[0])).all()


# ----------------------------------------------------------------------------------------------------------- the score


def test_score_orders_real_damaged_and_no_digits(digits, cache, rng):
    train, test = digits
    real = test.arrays[0]
    damaged = np.where(rng.random(real.shape) < 0.2, rng.integers(0, 256, real.shape), real).astype(np.uint8)
    noise = rng.integers(0, 256, real.shape).astype(np.uint8)
    values = [
        small_image_features.score(train, test, images, cache).value
        for images in (train.arrays[0], real, damaged, noise)
    ]
    assert values[0] == pytest.approx(0, abs=1e-8)
    assert values[0] < values[1] < 0.5 * values[2] < 0.25 * values[3]


def test_score_comes_with_its_protocol_and_its_floor(digits, cache):
    train, test = digits
    found = small_image_features.score(train, test, test.arrays[0][:100], cache)
    assert found.name == "fd_digits" and (found.samples, found.floor_images, found.reference) == (100, 100, 1500)
    assert found.value == found.floor > 0, "the floor is measured on as many held-out images as there are samples"
    report = found.report()
    assert report["fd_digits"] == found.value and report["fd_digits_floor_images"] == 100
    assert found.line().startswith("fd_digits ") and "no FID" in found.line()
    many = small_image_features.score(train, test, train.arrays[0][:1000], cache)
    assert (many.samples, many.floor_images) == (1000, 297)


def test_score_needs_labels_and_two_samples(digits, cache):
    train, test = digits
    with pytest.raises(ValueError, match="plain has no labels to train a classifier on"):
        small_image_features.score(in_memory("plain", train.arrays[0]), test, test.arrays[0], cache)
    with pytest.raises(ValueError, match="at least two feature vectors"):
        small_image_features.score(train, test, test.arrays[0][:1], cache)
    named = in_memory("tfds:kmnist/x", *some(train, 60).arrays, classes=10)
    assert small_image_features.score(named, test, test.arrays[0][:9], cache).name == "fd_tfds_kmnist_x"
