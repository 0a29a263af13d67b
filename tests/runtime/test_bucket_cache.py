"""Copies of objects on this machine: what stays, what makes room for what, and what does not fit."""

import os
import time
import uuid

import pytest

from diffusion.runtime import bucket_cache, bucket_path


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket, and a function that tells which of its objects have copies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bucket_cache, "_size", {})
    monkeypatch.setattr(bucket_cache, "LIMIT", 100)
    folder = bucket_path.at(f"memory://{uuid.uuid4().hex}/set")
    return folder, lambda: sorted(path.name for path in (tmp_path / "diffusion" / "objects").glob("*/*"))


def written(folder, **sizes):
    for name, size in sizes.items():
        (folder / name).write_bytes(b"x" * size)


def test_the_copies_used_longest_ago_make_room(bucket):
    folder, names = bucket
    written(folder, a=40, b=40, c=50, large=150)
    for seconds, name in ((20, "a"), (10, "b")):
        copy = bucket_cache.local(folder / name)
        os.utime(copy, (time.time() - seconds, copy.stat().st_mtime))
    bucket_cache.local(folder / "a")
    assert bucket_cache.local(folder / "c").read_bytes() == b"x" * 50 and names() == ["a", "c"]
    assert bucket_cache.local(folder / "large").stat().st_size == 150 and names() == ["large"]


def test_a_large_object_does_not_delete_itself(bucket):
    """It is counted once, and while it is being fetched nothing takes it for an old copy."""
    folder, names = bucket
    written(folder, first=10, a=70, b=70)
    for name in ("first", "a", "b"):
        assert bucket_cache.local(folder / name).stat().st_size in (10, 70)
    assert names() == ["b"]


def test_what_another_process_is_fetching_stays_and_what_a_dead_one_left_goes(bucket):
    folder, names = bucket
    written(folder, a=60, b=60)
    place = bucket_cache.local(folder / "a").parent
    for name, age in (("young.tmp", 0), ("old.tmp", 2 * bucket_cache.DAY)):
        (place / name).write_bytes(b"x" * 30)
        os.utime(place / name, (time.time() - age, time.time()))
    bucket_cache.local(folder / "b")
    assert names() == ["b", "young.tmp"]


def test_the_files_of_a_folder_are_there_together(bucket, monkeypatch):
    folder, names = bucket
    written(folder, other=90)
    bucket_cache.local(folder / "other")
    written(folder / "shards", a=50, b=50, c=50)
    place = bucket_cache.local_folder(folder / "shards")
    assert sorted(path.name for path in place.iterdir()) == [".whole", "a", "b", "c"] and names() == [".whole", *"abc"]
    bucket_cache.local(folder / "other")
    assert names() == [".whole", "a", "b", "c", "other"]  # another copy displaces none of them
    monkeypatch.setattr(
        bucket_cache.shutil, "disk_usage", lambda _: bucket_cache.shutil._ntuple_diskusage(200, 151, 49)
    )
    assert bucket_cache.local_folder(folder / "shards") == place
    written(folder / "more", d=140)
    with pytest.raises(ValueError, match=r"more: 140 B to be copied, and the disk of .* has room for 139 B; make room"):
        bucket_cache.local_folder(folder / "more")
    assert "other" in names()
    written(folder / "more", d=139)
    assert bucket_cache.local_folder(folder / "more").joinpath("d").stat().st_size == 139
    assert names() == [".whole", ".whole", "a", "b", "c", "d"]
