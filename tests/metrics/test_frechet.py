"""The Fréchet distance of two sets of features, and the stream of their moments."""

import numpy as np
import pytest
from scipy import linalg

from diffusion.metrics import frechet
from diffusion.metrics.frechet import Moments, Stream, distance, moments


def gaussian(rng, d: int, rank: int | None = None) -> Moments:
    factor = rng.normal(size=(d, rank or d))
    return Moments(rng.normal(size=d), factor @ factor.T)


def features(rng, n: int, d: int) -> np.ndarray:
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


# ------------------------------------------------------------------------------------------------------- the distance


def test_moments_are_numpys(rng):
    x = features(rng, 50, 4)
    found = moments(x)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-12)
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
    a, b = (Moments(m, axes @ np.diag(s**2) @ axes.T) for m, s in ((mean_a, std_a), (mean_b, std_b)))
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


@pytest.mark.parametrize("n", [50, 2000])
def test_distance_is_that_of_the_eigenvalues_of_the_product(rng, n):
    """A falling spectrum as of Inception's features, with and without full rank."""
    scales = np.arange(1, 101) ** -1.5
    a, b = (moments(rng.normal(size=(n, 100)) * scales * factor) for factor in (1, 1.1))
    found = distance(a, b)
    cross = linalg.eigvals(a.covariance @ b.covariance)
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance)
    assert found == pytest.approx(expected - 2 * np.sqrt(np.maximum(cross.real, 0)).sum(), rel=1e-6)


def test_what_is_no_set_of_features_is_refused():
    for n in (0, 1):
        with pytest.raises(ValueError, match=f"at least two feature vectors, got {n}"):
            streamed(*np.ones((n, 1, 3))).moments()
    with pytest.raises(ValueError, match="feature vectors are not finite"):
        moments(np.array([[0.0, 1], [np.nan, 0], [np.inf, 0], [1, 1]]))


# ---------------------------------------------------------------------------------------------------------- the stream


def streamed(*parts: np.ndarray) -> Stream:
    stream = Stream()
    for part in parts:
        stream.add(part)
    return stream


def assert_close(found: Moments, expected: Moments, rel: float = 1e-10) -> None:
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rel, atol=rel)
    scale = np.sqrt(np.outer(*2 * [np.diag(expected.covariance)]))
    np.testing.assert_allclose(found.covariance / scale, expected.covariance / scale, atol=rel)
    np.testing.assert_array_equal(found.covariance, found.covariance.T)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("level", [0.0, 1e3, 1e6])
def test_stream_is_the_batch_however_it_is_cut_and_ordered(rng, size, level):
    x = features(rng, 500, 5) + level
    expected = Moments(x.mean(axis=0), np.cov(x.T))
    order = rng.permutation(500)
    for y in (x, x[::-1], x[order]):
        assert_close(streamed(*(y[i : i + size] for i in range(0, 500, size))).moments(), expected)


def test_stream_of_single_precision_far_from_the_origin_keeps_its_digits(rng):
    """Mean 1e3, deviation 1e-2: the sums of squares that a naive stream takes agree in their first ten digits."""
    x = (1e3 + 1e-2 * rng.normal(size=(4000, 6))).astype(np.float32)
    expected = Moments(x.astype(np.longdouble).mean(axis=0).astype(float), np.cov(x.T.astype(float)))
    assert_close(streamed(*np.array_split(x, 37)).moments(), expected)
    assert_close(moments(x), expected)
    double = x.astype(np.float64)
    naive = (np.square(double).sum(axis=0) - 4000 * double.mean(axis=0) ** 2) / 3999
    assert np.abs(naive / np.diag(expected.covariance) - 1).max() > 1e-8, "the case tells nothing"


def test_moments_are_no_view_of_the_stream(rng):
    x = features(rng, 20, 3)
    stream = streamed(x)
    found = stream.moments()
    stream.add(10 + x)
    np.testing.assert_array_equal(found.mean, moments(x).mean)
