"""Reference statistics on disk: found again by what they are of, computed again when the file is no good."""

import hashlib
import json
import warnings

import numpy as np
import pytest

from diffusion.metrics import frechet, reference_statistics
from diffusion.metrics.reference_statistics import cached

KEY = {"data": "cifar10", "split": "train", "protocol": {"resize": "tf1", "images": 50_000}, "weights": "ab12"}


class Counted:
    """A computation that counts how often it is asked for."""

    def __init__(self, arrays):
        self.arrays, self.calls = arrays, 0

    def __call__(self):
        self.calls += 1
        return self.arrays


@pytest.fixture
def compute(rng):
    return Counted({"mean": rng.normal(size=9), "covariance": rng.normal(size=(9, 9)), "n": np.asarray(77)})


def assert_same(found, arrays):
    assert found.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(found[name], arrays[name])
        assert found[name].dtype == arrays[name].dtype


def test_statistics_are_computed_once_per_key(tmp_path, compute):
    for key in (KEY, dict(reversed(KEY.items())), json.loads(json.dumps(KEY))):
        assert_same(cached(key, tmp_path / "new", compute), compute.arrays)
    assert compute.calls == 1
    (file,) = (tmp_path / "new").iterdir()
    assert file.stem == hashlib.sha256(reference_statistics.canonical(KEY).encode()).hexdigest()
    with np.load(file) as content:
        assert json.loads(str(content[reference_statistics.KEY])) == KEY, "a file tells what it is"

    for change in ({"weights": "ab13"}, {"split": "test"}, {"protocol": {"resize": "tf1", "images": 10_000}}):
        cached({**KEY, **change}, tmp_path / "new", compute)
    assert compute.calls == 4 and len(list((tmp_path / "new").iterdir())) == 4


def test_damaged_files_are_computed_again_and_never_believed(tmp_path, compute, rng):
    cached(KEY, tmp_path, compute)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    cuts = [whole[:n] for n in (0, 1, 100, len(whole) // 2, len(whole) - 1)]
    flips = []
    for position in rng.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(rng.integers(8))
        flips.append(bytes(flipped))
    again = 0
    for content in [b"nonsense", whole[::-1], *cuts, *flips]:
        file.write_bytes(content)
        before = compute.calls
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert_same(cached(KEY, tmp_path, compute), compute.arrays)
        assert len(said) == compute.calls - before
        for warning in said:
            assert "cannot be read and are computed again" in str(warning.message) and "\n" not in str(warning.message)
        if said:
            assert file.read_bytes() == whole or len(file.read_bytes()) == len(whole), "not replaced by a good file"
            again += 1
    assert again > len(cuts) + 100


def test_a_file_of_another_key_is_not_believed(tmp_path, compute):
    cached({**KEY, "split": "test"}, tmp_path, Counted({"mean": np.zeros(3)}))
    (file,) = tmp_path.iterdir()
    file.rename(file.with_stem(hashlib.sha256(reference_statistics.canonical(KEY).encode()).hexdigest()))
    with pytest.warns(UserWarning, match="it holds another key"):
        assert_same(cached(KEY, tmp_path, compute), compute.arrays)


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path, compute):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept in"):
        assert_same(cached(KEY, tmp_path / "file", compute), compute.arrays)


def test_nothing_half_done_is_left(tmp_path, compute, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reference_statistics.np, "savez", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert_same(cached(KEY, tmp_path, compute), compute.arrays)
    assert list(tmp_path.iterdir()) == []

    def fails():
        raise ValueError("no such data")

    with pytest.raises(ValueError, match="no such data"):
        cached(KEY, tmp_path, fails)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_plain_json(tmp_path, compute):
    for value in (float("nan"), np.float32(1), {1, 2}, tmp_path):
        with pytest.raises(ValueError, match="must be plain JSON"):
            cached({**KEY, "more": value}, tmp_path, compute)
    assert compute.calls == 0


def test_default_folder_is_the_users_cache(tmp_path, compute, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached(KEY, None, compute)
    assert len(list((tmp_path / "diffusion" / "reference").iterdir())) == 1


def test_moments_come_back_as_they_were(tmp_path, rng):
    found = frechet.moments(rng.normal(size=(20, 5)))
    for _ in range(2):
        again = reference_statistics.moments(KEY, tmp_path, lambda: found)
        np.testing.assert_array_equal(again.covariance, found.covariance)
        np.testing.assert_array_equal(again.mean, found.mean)
        assert again.n == 20 and type(again.n) is int
    assert (
        frechet.distance(reference_statistics.moments(KEY, tmp_path, lambda: pytest.fail("computed again")), found)
        < 1e-12
    )
