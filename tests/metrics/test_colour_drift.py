"""The alarm on the colours of samples: raised by tints, grey and saturation, not by real data or small grids."""

import numpy as np
import pytest

from diffusion.data.source import in_memory
from diffusion.metrics import colour_drift


def images(rng, n, mean=(120.0, 110.0, 100.0), spread=40.0, contrast=50.0):
    """Images whose brightness varies from one to the next, as photographs' does."""
    level = np.asarray(mean) + spread * rng.normal(size=(n, 1, 1, 1))
    pixels = level + contrast * rng.normal(size=(n, 8, 8, len(mean)))
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def test_levels_against_numpy(rng):
    pixels = images(rng, 7)
    found = colour_drift.measure(pixels)
    per_image = [[(p[..., c].mean(), p[..., c].astype(float).std()) for c in range(3)] for p in pixels]
    np.testing.assert_allclose(found.mean, np.mean(per_image, axis=0).T)
    np.testing.assert_allclose(found.deviation, np.std(per_image, axis=0).T)
    assert found.images == 7


def test_the_difference_is_a_two_sample_statistic(rng):
    """Over many pairs of sets from one distribution the errors have mean 0 and variance 1."""
    data = colour_drift.measure(images(rng, 400))
    errors = np.stack([colour_drift.compare(colour_drift.measure(images(rng, 16)), data).errors for _ in range(300)])
    assert np.abs(errors.mean(axis=0)).max() < 0.4
    assert np.abs(errors.std(axis=0) - 1).max() < 0.25
    exact = colour_drift.compare(
        colour_drift.Levels(np.full((2, 1), 90.0), np.ones((2, 1)), 4),
        colour_drift.Levels(np.full((2, 1), 60.0), np.full((2, 1), 20.0), 12),
    )
    np.testing.assert_allclose(exact.levels, 30.0)
    np.testing.assert_allclose(exact.errors, 30 / (20 * np.sqrt(1 / 4 + 1 / 12)))


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
    assert words in line and "standard errors off" in line and "\n" not in line


def test_both_limits_must_be_passed():
    data = colour_drift.Levels(np.full((2, 1), 100.0), np.full((2, 1), 40.0), 1000)
    few = colour_drift.Levels(data.mean + np.array([[50.0], [0.0]]), data.deviation, 8)
    assert colour_drift.warning(few, data) == "", "50 levels of 8 images are 3.5 standard errors"
    assert colour_drift.warning(few._replace(images=64), data).startswith(
        "samples drift from the data: brightness is 150 and"
    )
    assert colour_drift.warning(few._replace(mean=data.mean + 150, images=7), data) == "", "too few to tell"
    slight = colour_drift.Levels(data.mean + np.array([[5.0], [0.0]]), data.deviation, 10**6)
    assert colour_drift.warning(slight, data._replace(images=10**6)) == "", "5 levels are not seen"


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
    assert "brightness is 128 and not 0 of 255, inf standard errors off" in colour_drift.warning(grey, black)


def test_levels_of_a_data_set_and_what_is_refused(rng):
    pixels = images(rng, 50)
    source = in_memory("some", pixels)
    np.testing.assert_allclose(colour_drift.of_source(source).mean, colour_drift.measure(pixels).mean)
    assert colour_drift.of_source(source, 10).images == 10
    assert colour_drift.of_source(in_memory("one", pixels[:1])).images == 1
    for wrong in (pixels[:0], pixels.astype(np.float32), pixels[0]):
        with pytest.raises(ValueError, match="images uint8"):
            colour_drift.measure(wrong)
