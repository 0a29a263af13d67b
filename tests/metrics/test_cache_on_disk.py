"""Arrays on disk: read by their key, computed again when the file is damaged or of another key."""

import json
import warnings

import numpy as np
import pytest

import diffusion
from diffusion.metrics import cache_on_disk
from diffusion.runtime import paths

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


def cached(key, folder, compute):
    return cache_on_disk.cached(cache_on_disk.place(folder, "moments", key), compute)


def assert_same(found, arrays):
    assert found.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(found[name], arrays[name])
        assert found[name].dtype == arrays[name].dtype


def test_arrays_are_computed_once_per_key(tmp_path, compute):
    for key in (KEY, dict(reversed(KEY.items())), json.loads(json.dumps(KEY))):
        assert_same(cached(key, tmp_path / "new", compute), compute.arrays)
    assert compute.calls == 1
    for change in ({"weights": "ab13"}, {"split": "test"}, {"protocol": {"resize": "tf1", "images": 10_000}}):
        cached({**KEY, **change}, tmp_path / "new", compute)
    assert compute.calls == 4 and len(list((tmp_path / "new").iterdir())) == 4


def test_arrays_of_another_version_are_computed_again(tmp_path, compute, monkeypatch):
    cached(KEY, tmp_path, compute)
    monkeypatch.setattr(diffusion, "__version__", "0.0.1")
    cached(KEY, tmp_path, compute)
    assert compute.calls == 2


def test_damaged_files_are_computed_again_and_never_used(tmp_path, compute, rng):
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
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert_same(cached(KEY, tmp_path, compute), compute.arrays)
        assert len(caught) <= compute.calls - before
        for warning in caught:
            assert "cannot be read and is computed again" in str(warning.message) and "\n" not in str(warning.message)
        if caught:
            assert file.read_bytes() == whole or len(file.read_bytes()) == len(whole), "not replaced by a good file"
            again += 1
    assert again > len(cuts) + 100


def test_a_folder_that_cannot_be_written_costs_no_result(tmp_path, compute):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be stored in"):
        assert_same(cached(KEY, tmp_path / "file", compute), compute.arrays)


def test_nothing_half_done_is_left(tmp_path, compute, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert_same(cached(KEY, tmp_path, compute), compute.arrays)
    assert list(tmp_path.iterdir()) == []

    def fails():
        raise ValueError("no such data")

    with pytest.raises(ValueError, match="no such data"):
        cached(KEY, tmp_path, fails)
    assert list(tmp_path.iterdir()) == []


def test_the_users_cache_has_folders_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_folder("reference") == tmp_path / "diffusion" / "reference"
