"""Mean and standard error of numbers that each image has, for any batch size, and their use in results."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.core.elbo import bits_per_dim
from diffusion.data.dataset_interface import in_memory
from diffusion.evaluation.flow_nll import FLOW
from diffusion.metrics import mean_and_standard_error
from diffusion.metrics.mean_and_standard_error import Means


@pytest.fixture
def source(rng):
    return in_memory("noise", rng.integers(0, 256, (23, 2, 2, 1), dtype=np.uint8))


def columns(keys, x_0, labels):  # noqa: ARG001
    flat = x_0.reshape(len(x_0), -1)
    return jnp.stack([flat.sum(axis=1), 1e3 + flat[:, 0]], axis=1)


def expected(source):
    x = source.arrays[0].reshape(23, -1) / 127.5 - 1
    values = np.stack([x.sum(axis=1), 1e3 + x[:, 0]], axis=1)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(23)


@pytest.mark.parametrize("batch", [1, 8, 23, 64])
def test_means_and_errors_are_numpys(source, batch):
    means = mean_and_standard_error.measure(columns, source, np.arange(23), batch, 0)
    mean, error = expected(source)
    assert means.images == 23
    np.testing.assert_allclose(means.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(means.error, error, rtol=1e-3)


def test_partial_means_are_continued_and_others_are_not(source, tmp_path):
    whole = mean_and_standard_error.measure(columns, source, np.arange(23), 8, 0)

    def stop(done):
        if done == 16:
            raise KeyboardInterrupt

    file, seen = tmp_path / "x.npz", []
    with pytest.raises(KeyboardInterrupt):
        mean_and_standard_error.measure(columns, source, np.arange(23), 8, 0, file, stop)
    resumed = mean_and_standard_error.measure(columns, source, np.arange(23), 8, 0, file, seen.append)
    assert seen == [16, 23]
    np.testing.assert_array_equal([resumed.mean, resumed.error], [whole.mean, whole.error])


def test_partial_means_are_written_from_time_to_time(source, tmp_path, monkeypatch):
    def written(done):
        seen.append((done, file.exists()))

    for seconds, after_two in ((-1.0, True), (1e9, False)):
        monkeypatch.setattr(mean_and_standard_error, "SECONDS", seconds)
        file, seen = tmp_path / f"{seconds}.npz", []
        mean_and_standard_error.measure(columns, source, np.arange(23), 8, 0, file, written)
        assert seen == [(0, False), (8, False), (16, after_two), (23, after_two)] and file.exists()


def test_one_image_has_no_error_and_none_are_refused(source):
    means = mean_and_standard_error.measure(columns, source, [3], 4, 0)
    assert np.isnan(means.error).all() and np.isfinite(means.mean).all()
    with pytest.raises(ValueError, match="at least one image"):
        mean_and_standard_error.measure(columns, source, [], 4, 0)


def test_the_flow_quotes_the_error_of_the_mean():
    """Nats of 4 images with mean 6 and deviation 2 of 12 dimensions."""
    nats = np.array([4.0, 8.0, 5.0, 7.0])
    means = Means(4, np.array([nats.mean()]), np.array([((nats - nats.mean()) ** 2).sum()]))
    values, _ = FLOW.summary(means, 12)
    assert values["bits_per_dim"] == pytest.approx(6 * bits_per_dim(1.0, 12)) and values["images"] == 4
    assert values["standard_error"] == pytest.approx(nats.std(ddof=1) / 2 * bits_per_dim(1.0, 12))
