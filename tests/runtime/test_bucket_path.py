"""Paths in buckets: on real servers of both services, and in fsspec's memory."""

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffusion.data import list_image_files
from diffusion.runtime import atomic_files, bucket_lock, bucket_path, bucket_requests, file_lock, paths
from tests.support import buckets

service = buckets.services("gs", "s3")
folder = buckets.folder


def test_a_path_in_a_bucket_is_like_one_on_a_disk(folder, tmp_path):
    """The same calls give the same answers."""
    seen = []
    for root in (folder, tmp_path / "here"):
        atomic_files.write_json(root / "a" / "1.json", {"x": 1})
        atomic_files.write_bytes(root / "a" / "b" / "c.bin", b"\0" * 70_000)
        (root / "text").write_text("ä\n")
        with atomic_files.atomic_path(root / "whole") as place:
            place.mkdir()
            (place / "inner").write_text("1")
        answers = [
            sorted(path.relative_to(root).as_posix() for path in root.rglob("*")),
            sorted(path.name for path in root.glob("*")),
            sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.json")),
            sorted(path.relative_to(root).as_posix() for path in root.rglob("b/*")),
            sorted(path.name for path in root.iterdir()),
            [(path.exists(), path.is_dir(), path.is_file()) for path in (root, root / "a", root / "text", root / "no")],
            (root / "a" / "b" / "c.bin").stat().st_size,
            atomic_files.read_json(root / "a" / "1.json"),
            (root / "text").read_text(),
            (root / "text").open().read(),
            (root / "a" / "b" / "c.bin").open("rb").read(3),
            (root / "a").parent == root,
        ]
        (root / "text").unlink()
        (root / "text").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            (root / "text").read_bytes()
        (root / "a").rename(root / "moved")
        (root / "whole").remove() if isinstance(root, bucket_path.Bucket) else shutil.rmtree(root / "whole")
        seen.append((*answers, sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))))
    assert seen[0] == seen[1]
    assert str(folder / "a").startswith(("gs://runs/", "s3://runs/"))


def test_a_failed_write_leaves_the_old_file(folder):
    atomic_files.write_bytes(folder / "f", b"old")
    with pytest.raises(ZeroDivisionError), atomic_files.atomic_file(folder / "f") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (folder / "f").read_bytes() == b"old"


def test_a_busy_service_delays_a_request_and_a_missing_bucket_does_not(folder, service, monkeypatch):
    other = paths.expanded(f"{service.url}-not-there/x")
    assert not other.exists() and list(other.glob("*")) == []
    with pytest.raises(FileNotFoundError, match="no such object or bucket"):
        atomic_files.write_bytes(other / "f", b"1")
    if service.url.startswith("gs"):
        return  # gcsfs itself tries for half a minute first
    atomic_files.write_bytes(folder / "f", b"1")
    monkeypatch.setattr(bucket_requests, "PATIENCE", 0.0)
    service.gate.state = buckets.BUSY
    try:
        with pytest.raises(OSError, match="Service Unavailable"):
            (folder / "f").read_bytes()
    finally:
        service.gate.state = buckets.OPEN
    assert service.gate.requests


def test_a_request_without_permission_ends_in_a_line(folder, service):
    (folder / "f").write_bytes(b"")
    listing = folder.listing()
    service.gate.state = buckets.FORBIDDEN
    try:
        for call in (lambda: list(folder.glob("*")), (folder / "f").read_bytes, lambda: (folder / "f").create(b"1")):
            with pytest.raises(PermissionError, match=rf"^no permission for {folder}[/f]*, or no credentials$"):
                call()
        with pytest.raises(ValueError, match=r"^(.*/f): cannot be read \(no permission for \1, or no credentials\)"):
            list_image_files._copy(folder, listing, f"{folder}/f")
    finally:
        service.gate.state = buckets.OPEN
    assert service.gate.requests


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(bucket_lock, "HEARTBEAT", 0.2)
    monkeypatch.setattr(bucket_lock, "LEASE", 1.5)


def test_one_of_many_starts_at_once_creates_the_lock(folder):
    """Each has found no lock; the service's precondition decides, and only one of the contents stays."""
    contents = [str(i).encode() for i in range(16)]
    with ThreadPoolExecutor(len(contents)) as pool:
        created = list(pool.map((folder / "lock" / "00000001").create, contents))
    assert created.count(True) == 1
    assert (folder / "lock" / "00000001").read_bytes() == contents[created.index(True)]
    assert not (folder / "lock" / "00000001").create(b"later") and (folder / "lock" / "00000002").create(b"later")


def test_a_lock_has_one_holder_and_is_given_back(folder, quick):  # noqa: ARG001
    for _ in range(2):
        with file_lock.exclusive(folder / "lock", "it", "wait") as check:
            check()
            with (
                pytest.raises(ValueError, match=r"it is in use by process .*: wait"),
                file_lock.exclusive(folder / "lock", "it", "wait"),
            ):
                pass
        assert not bucket_lock.newest(folder / "lock")[1]["held"]


def test_the_lock_of_a_silent_process_is_taken_over_with_a_warning(folder, quick):  # noqa: ARG001
    left = {"owner": "process 1 on elsewhere", "pid": 1, "machine": "elsewhere", "id": "x", "beat": 3, "held": True}
    atomic_files.write_json(folder / "lock" / "00000007", left)
    with (
        pytest.warns(UserWarning, match="taken over from process 1 on elsewhere"),
        file_lock.exclusive(folder / "lock", "it", "wait") as check,
    ):
        check()
        assert [path.name for path in (folder / "lock").glob("*")] == ["00000008"]
        atomic_files.write_json(folder / "lock" / "00000009", {**left, "owner": "process 2"})
        with pytest.raises(ValueError, match="was taken over by process 2"):
            check()


def test_the_lock_of_a_process_of_this_machine_that_ended_is_taken_over_at_once(folder):
    left = {"owner": "a", "pid": 2**22 + 1, "machine": bucket_lock._machine(), "id": "x", "beat": 3, "held": True}
    atomic_files.write_json(folder / "lock" / "00000001", left)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with file_lock.exclusive(folder / "lock", "it", "wait"):
            assert bucket_lock.newest(folder / "lock")[0] == 2


def test_urls_that_cannot_be_opened_end_in_a_line(monkeypatch):
    for url, line in (
        ("gs://", "names no bucket"),
        ("nosuch://a/b", "no file system nosuch"),
        ("s3://KEY:SECRET@runs/a", "must not hold credentials"),
    ):
        with pytest.raises(ValueError, match=line) as caught:
            paths.expanded(url)
        assert "SECRET" not in str(caught.value)
    fsspec = pytest.importorskip("fsspec")

    def missing(scheme):
        raise ImportError(scheme)

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    for url, package in (("gs://a/b", "gcsfs"), ("s3://a/b", "s3fs")):
        with pytest.raises(ValueError, match=f"pip install {package}"):
            paths.expanded(url)


def test_a_file_url_is_a_local_path():
    assert paths.expanded("file:///tmp/x") == Path("/tmp/x")
    assert isinstance(paths.expanded("memory://a/b"), bucket_path.Bucket)
    assert json.dumps(str(paths.expanded("memory://a/b/"))) == '"memory://a/b"'
