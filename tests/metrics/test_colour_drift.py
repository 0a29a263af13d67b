"""The alarm on the colours of samples: raised by tints, grey and saturation, not by real data or small grids."""

import numpy as np
import pytest

from diffusion.data.dataset_interface import in_memory
from diffusion.metrics import colour_drift


def images(rng, n, mean=(120.0, 110.0, 100.0), spread=40.0, contrast=50.0):
    """Images whose brightness varies from one to the next, as photographs' does."""
    level = np.asarray(mean) + spread * rng.normal(size=(n, 1, 1, 1))
    pixels = level + contrast * rng.normal(size=(n, 8, 8, len(mean)))
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def levels(n, brightness, deviation=40.0):
    """Levels of n grey images with this mean and deviation of their brightness, and no contrast."""
    column = brightness + deviation * np.where(np.arange(n) % 2, 1.0, -1.0)
    return np.stack([column, np.zeros(n)], axis=1)[..., None]


def test_levels_against_numpy(rng):
    pixels = images(rng, 7)
    per_image = [[(p[..., c].mean(), p[..., c].astype(float).std()) for c in range(3)] for p in pixels]
    np.testing.assert_allclose(colour_drift.measure(pixels), np.swapaxes(per_image, 1, 2))


def test_data_hardly_ever_raises_an_alarm(rng):
    """Some 0.1 of 400 grids are expected to, by chance; three would be expected once in 5000 such tests."""
    data = colour_drift.measure(images(rng, 1000))
    alarms = sum(
        bool(colour_drift.warning(colour_drift.measure(images(rng, n)), data))
        for n in (4, 8, 16, 64)
        for _ in range(100)
    )
    assert alarms < 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(mean=(120.0, 110.0, 160.0)), "brightness of blue is 1"),
        (dict(contrast=8.0), "contrast of "),
        (dict(contrast=200.0), "contrast of "),
        (dict(mean=(60.0, 110.0, 100.0)), "brightness of red is "),
    ],
)
def test_tints_grey_and_saturation_raise_it(rng, change, words):
    data = colour_drift.measure(images(rng, 1000))
    line = colour_drift.warning(colour_drift.measure(images(rng, 64, **change)), data)
    assert words in line and "\n" not in line


def test_both_limits_must_be_passed():
    data = levels(1000, 100.0)
    assert colour_drift.warning(levels(8, 150.0), data) == "", "50 levels of 8 images are 3.5 standard errors"
    assert colour_drift.warning(levels(12, 150.0), data).startswith(
        "samples drift from the data: brightness is 150 and not 100 of 255"
    ), "4.3 standard errors"
    assert colour_drift.warning(levels(7, 250.0, 0.0), data) == "", "too few to tell"
    assert colour_drift.warning(levels(10**6, 105.0), levels(10**6, 100.0)) == "", "5 levels are not seen"


def test_few_images_of_the_data_raise_no_alarm(rng):
    """A small folder holds one image out, which differs from all samples."""
    drawn, data = colour_drift.measure(images(rng, 64)), images(rng, 8)
    assert all(colour_drift.warning(drawn, colour_drift.measure(data[:n])) == "" for n in (1, 2, 7))
    black = colour_drift.measure(np.zeros_like(data))
    assert "brightness" in colour_drift.warning(drawn, black)


def test_images_that_are_all_alike():
    black = colour_drift.measure(np.zeros((8, 4, 4, 1), np.uint8))
    assert colour_drift.warning(black, black) == ""
    grey = colour_drift.measure(np.full((8, 4, 4, 1), 128, np.uint8))
    assert "brightness is 128 and not 0 of 255" in colour_drift.warning(grey, black)


def test_levels_of_a_data_set(rng):
    pixels = images(rng, 50)
    source = in_memory("some", pixels)
    np.testing.assert_array_equal(colour_drift.of_source(source), colour_drift.measure(pixels))
    assert len(colour_drift.of_source(source, 10)) == 10
