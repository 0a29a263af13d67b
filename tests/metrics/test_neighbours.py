"""Nearest neighbours against brute force, and the report on memorised, real and other samples."""

import numpy as np
import pytest

from diffusion.data.digits import digits as load_digits
from diffusion.metrics import neighbours
from diffusion.metrics.neighbours import memorisation, nearest, summary


def by_force(queries, database, k):
    x, y = (a.reshape(len(a), -1).astype(np.float64) for a in (queries, database))
    squares = ((x[:, None] - y[None]) ** 2).sum(axis=-1)
    index = squares.argsort(axis=1, kind="stable")[:, :k]
    return index, np.sqrt(np.take_along_axis(squares, index, axis=1))


# ------------------------------------------------------------------------------------------------------- the neighbours


@pytest.mark.parametrize("k", [1, 3, 20])
def test_neighbours_are_those_of_brute_force(rng, k, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    x, y = rng.integers(0, 256, (31, 6)), rng.integers(0, 256, (20, 6))
    index, distance = nearest(x, y, k)
    expected = by_force(x, y, k)
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_allclose(distance, expected[1], rtol=1e-14)
    assert index.dtype == np.int64 and distance.dtype == np.float64


def test_neighbours_of_images_are_exact(rng):
    """Grey levels are whole numbers and so are squared distances: many are equal, and of those any may be found."""
    train = rng.integers(0, 3, (40, 2, 3, 1)).astype(np.uint8)
    samples = rng.integers(0, 3, (25, 2, 3, 1)).astype(np.uint8)
    index, distance = nearest(samples, train, 2)
    np.testing.assert_array_equal(distance, by_force(samples, train, 2)[1])
    difference = train[index].astype(int) - samples[:, None]
    np.testing.assert_array_equal(distance, np.sqrt((difference**2).sum(axis=(2, 3, 4))))
    assert (index[:, 0] != index[:, 1]).all()


def test_search_refuses_what_it_cannot_find(rng):
    x = rng.normal(size=(5, 3))
    for queries, database, k in ((x, x, 6), (x, x[:0], 1), (x[:0], x, 1), (x, x[:, :2], 1)):
        with pytest.raises(ValueError, match=r"\S"):
            nearest(queries, database, k)


# ------------------------------------------------------------------------------------------------------- memorisation


@pytest.fixture(scope="module")
def digits():
    return load_digits(train=True).arrays[0], load_digits(train=False).arrays[0]


def test_copies_are_caught_and_real_images_are_not(digits, rng):
    train, test = digits
    copied = train[rng.permutation(len(train))[:100]]
    found, _ = memorisation(copied, test, train)
    assert found["copies"] == 100 and found["closer"] == 1.0
    np.testing.assert_array_equal(train[nearest(copied, train)[0][:, 0]], copied)

    real, _ = memorisation(test[::2], test[1::2], train)
    assert real["copies"] == 0 and abs(real["closer"] - 0.05) < 4 * np.sqrt(0.05 * 0.95 * 2 / len(test[::2]))

    noise, _ = memorisation(rng.integers(0, 256, (50, *test.shape[1:])).astype(np.uint8), test, train)
    assert noise["closer"] == 0.0 and noise["samples_median"] > 2 * noise["held_out_median"]


def test_slight_changes_to_copies_are_caught(digits, rng):
    train, test = digits
    changed = np.clip(train[:100].astype(int) + rng.integers(-3, 4, train[:100].shape), 0, 255).astype(np.uint8)
    found, _ = memorisation(changed, test, train)
    assert found["copies"] < 5 and found["closer"] > 0.99
    np.testing.assert_array_equal(nearest(changed, train)[0][:, 0], np.arange(100))


def test_summary_counts_close_samples_and_copies():
    values, line = summary(np.array([0.0, 1, 5, 6]), np.arange(2.0, 13), 9)
    assert (values["closer"], values["copies"]) == (0.5, 1), "2 of 4 are below 2.5, the 5% quantile of 2..12"
    assert values["samples_median"] == 3 and values["held_out_median"] == 7 and values["held_out_q95"] == 11.5
    assert (values["samples"], values["held_out"], values["train"]) == (4, 11, 9)
    assert all(type(value) is float for value in values.values())
    assert "\n" not in line and "50.0% of 4 samples are closer than the closest 5% of held-out images, 1 are" in line
