"""CIFAR-10 from synthetic files in the official layouts, from a web server on the loopback address, from nowhere."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from diffusion.data import cifar10 as module
from diffusion.data.cifar10 import ARCHIVES, PER_FILE, cifar10
from diffusion.data.download import Remote
from tests.data.test_download import send, serving

COUNT = 4  # images a file, where the official files have 10,000
FILES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
SUFFIX = {"cifar-10-batches-bin": ".bin", "cifar-10-batches-py": ""}
LAYOUTS = list(SUFFIX)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Nothing of this machine is found: no cache, no TFDS folder, no proxy. Files have COUNT images."""
    monkeypatch.setattr(module, "PER_FILE", COUNT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no tfds"))
    monkeypatch.setenv("no_proxy", "*")


class Python2Pickler(pickle._Pickler):  # the official files were written by Python 2, where bytes were strings
    def save_bytes(self, obj):
        small = len(obj) < 256
        self.write((pickle.SHORT_BINSTRING + bytes([len(obj)]) if small else b"T" + struct.pack("<i", len(obj))) + obj)
        self.memoize(obj)

    dispatch = pickle._Pickler.dispatch | {bytes: save_bytes}


def python2_pickle(thing) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(thing)
    return file.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


@pytest.fixture(scope="module")
def images():
    """Images and labels of all files in order; nothing about them is symmetric."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (6 * COUNT, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 6 * COUNT)


def contents(images, layout) -> dict[str, bytes]:
    """The files of a layout, written from its description and not with the reader's reshapes."""
    pixels, labels = images
    planes = [b"".join(image[:, :, channel].tobytes() for channel in range(3)) for image in pixels]
    files = {}
    for i, name in enumerate(FILES):
        part = range(i * COUNT, (i + 1) * COUNT)
        if SUFFIX[layout]:
            files[name + ".bin"] = b"".join(bytes([labels[j]]) + planes[j] for j in part)
        else:
            data = np.stack([np.frombuffer(planes[j], np.uint8) for j in part])
            batch = {b"batch_label": name.encode(), b"labels": [int(labels[j]) for j in part], b"data": data}
            files[name] = python2_pickle(batch | {b"filenames": [b"x.png"] * COUNT})
    return files


def write_folder(root: Path, files: dict[str, bytes], layout: str) -> Path:
    folder = root / layout
    folder.mkdir(parents=True)
    (folder / "readme.html").write_text("readme")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: dict[str, bytes], layout: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in ["readme.html", *reversed(files)]:  # in the official ones the batches are out of order, too
            member = tarfile.TarInfo(f"{layout}/{name}")
            content = files.get(name, b"readme")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def error_of(place, train=True) -> str:
    with pytest.raises(ValueError) as error:
        cifar10(train, place, download=False)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_layouts_are_read_wherever_they_lie(tmp_path, images, layout):
    files, name = contents(images, layout), ARCHIVES[LAYOUTS.index(layout)]
    folder = write_folder(tmp_path / "extracted", files, layout)
    archive = write_archive(tmp_path / "archived" / name, files, layout)
    renamed = write_archive(tmp_path / "renamed.tgz", files, layout)
    for place in (folder, folder.parent, archive, archive.parent, renamed, str(folder)):
        for train, part in ((True, slice(0, 5 * COUNT)), (False, slice(5 * COUNT, None))):
            source = cifar10(train, place, download=False)
            assert (source.name, source.shape, source.classes) == ("cifar10", (32, 32, 3), 10)
            np.testing.assert_array_equal(source.arrays[0], images[0][part])
            np.testing.assert_array_equal(source.arrays[1], images[1][part])


def test_the_official_files_have_ten_thousand_images():
    assert PER_FILE == 10_000


def test_a_folder_of_something_else_is_not_cifar10(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"")
    for place in (tmp_path, tmp_path / "missing"):
        assert "not on this machine" in error_of(place)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("as_archive", [False, True])
def test_a_missing_file_is_named(tmp_path, images, layout, as_archive):
    files = contents(images, layout)
    del files["data_batch_3" + SUFFIX[layout]]
    place = write_archive(tmp_path / "a.tar.gz", files, layout) if as_archive else write_folder(tmp_path, files, layout)
    assert str(place) in error_of(place) and "data_batch_3" in error_of(place)
    assert cifar10(False, place).size == COUNT  # the test split is whole


def damaged(content: bytes, layout: str) -> dict[str, bytes]:
    whole = {"shorter": content[:-1], "half": content[: len(content) // 2], "empty": b""}
    return whole | ({"longer": content + b"\0"} if SUFFIX[layout] else {"text": b"<html>not found</html>"})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("as_archive", [False, True])
def test_a_damaged_file_is_named(tmp_path, images, layout, as_archive):
    files, name = contents(images, layout), "data_batch_2" + SUFFIX[layout]
    for kind, content in damaged(files[name], layout).items():
        broken = files | {name: content}
        place = tmp_path / kind
        place = write_archive(place / "a.tar.gz", broken, layout) if as_archive else write_folder(place, broken, layout)
        message = error_of(place)
        assert str(place / name) in message and "extract" in message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_label_outside_its_range_is_named(tmp_path, images, layout):
    labels = images[1].copy()
    labels[2 * COUNT + 1] = 10
    place = write_folder(tmp_path, contents((images[0], labels), layout), layout)
    message = error_of(place)
    assert "data_batch_3" in message and "label 10 of image 1" in message


def test_a_python_batch_of_another_kind_is_named(tmp_path, images):
    layout = "cifar-10-batches-py"
    files = contents(images, layout)
    place = write_folder(tmp_path, files, layout)
    good = {b"data": np.zeros((COUNT, 3072), np.uint8), b"labels": [0] * COUNT}
    for wrong in (
        {b"data": np.zeros((COUNT, 3072), np.float32)},
        {b"data": np.zeros((COUNT + 1, 3072), np.uint8)},
        {b"data": [[0] * 3072] * COUNT},
        {b"labels": [0] * (COUNT - 1)},
        {b"labels": [[0]] * COUNT},
        {b"labels": None},
    ):
        (place / "data_batch_1").write_bytes(python2_pickle(good | wrong))
        assert "data_batch_1" in error_of(place)
    for wrong in ([good], {b"data": good[b"data"]}, None):
        (place / "data_batch_1").write_bytes(python2_pickle(wrong))
        assert "data_batch_1" in error_of(place)


class Call:
    """Unpickles to a call of the function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_runs_nothing(tmp_path, images, protocol):
    layout, victim = "cifar-10-batches-py", tmp_path / "victim"
    place = write_folder(tmp_path, contents(images, layout), layout)
    hostile = [
        Call(os.system, f"touch '{victim}'"),
        Call(open, str(victim), "w"),
        Call(eval, f"open({str(victim)!r}, 'w')"),
        Call(exec, f"open({str(victim)!r}, 'w')"),
        Call(np.fromfile, str(place / "readme.html")),
        Call(np.memmap, str(victim), "u1", "w+", 0, (1,)),
        np.array([Call(open, str(victim), "w")], dtype=object),
        {b"data": Call(open, str(victim), "w"), b"labels": []},
    ]
    for thing in hostile:
        (place / "data_batch_1").write_bytes(pickle.dumps(thing, protocol))
        message = error_of(place)
        assert "data_batch_1" in message and "it asks for" in message
        assert not victim.exists()
    pickle.loads(pickle.dumps(hostile[1], protocol)).close()
    assert victim.exists()  # the pickles do work where they are let


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_archive_is_named(tmp_path, images, layout):
    whole = write_archive(tmp_path / "whole.tar.gz", contents(images, layout), layout).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:20], b"", bytes(flipped), b"<html>not found</html>"):
        path = tmp_path / ARCHIVES[0]
        path.write_bytes(content)
        assert f"{path} is damaged" in error_of(path) and f"{path} is damaged" in error_of(tmp_path)


def test_an_archive_of_something_else_is_named(tmp_path):
    path = write_archive(tmp_path / "cats.tar.gz", {"cat.png": b"cat"}, "cats")
    assert f"{path}/data_batch_1.bin is missing" in error_of(path)


def test_random_damage_never_passes_silently_or_ends_in_another_error(tmp_path, images):
    """A flipped bit is found by the archive's checksum; in a pickle it is an error, or another pixel or label."""
    rng = np.random.default_rng(0)
    layout = "cifar-10-batches-py"
    files = contents(images, layout)
    archive = write_archive(tmp_path / "a.tar.gz", files, layout)
    whole = archive.read_bytes()
    folder = write_folder(tmp_path, files, layout)
    for _ in range(40):
        broken = bytearray(whole)
        position = rng.integers(30, len(whole))  # the time and the name in the header mean nothing
        broken[position] ^= 1 << rng.integers(8)
        archive.write_bytes(broken)
        assert "a.tar.gz" in error_of(archive)
        broken = bytearray(files["test_batch"])
        broken[rng.integers(400)] ^= 1 << rng.integers(8)
        (folder / "test_batch").write_bytes(broken)
        try:
            source = cifar10(False, folder, download=False)
        except ValueError as error:
            assert "test_batch" in str(error) and "\n" not in str(error)
        else:
            assert source.arrays[0].shape == (COUNT, 32, 32, 3) and source.arrays[1].max() < 10


# --- the network ---


@pytest.fixture(scope="module")
def published(images, tmp_path_factory):
    """The bytes of a synthetic archive in the official layout."""
    layout = "cifar-10-batches-bin"
    return write_archive(tmp_path_factory.mktemp("web") / "a", contents(images, layout), layout).read_bytes()


def remote_of(url, published):
    return Remote(url, hashlib.sha256(published).hexdigest())


@pytest.mark.parametrize("given", [True, False])
def test_what_is_nowhere_is_downloaded_once(tmp_path, monkeypatch, images, published, given):
    data_dir = tmp_path / "data" if given else ""
    with serving(send(published)) as (url, requests):
        monkeypatch.setattr(module, "OFFICIAL", remote_of(url, published))
        for train in (True, False):
            source = cifar10(train, data_dir)
            assert source.size == (5 * COUNT if train else COUNT)
        assert len(requests) == 1
    np.testing.assert_array_equal(source.arrays[0], images[0][5 * COUNT :])
    home = data_dir if given else tmp_path / "cache" / "diffusion" / "data"
    assert [file.name for file in home.iterdir()] == ["cifar-10-binary.tar.gz"]
    assert cifar10(True, data_dir, download=False).size == 5 * COUNT


def names_the_ways(message):
    return all(words in message for words in (*ARCHIVES, "TFDS", "--config.data.dir")) and "\n" not in message


def test_a_wrong_download_leaves_nothing_and_names_the_ways(tmp_path, monkeypatch, published):
    for body in (published[:-9], published[:-1] + b"?"):
        with serving(send(body)) as (url, _), pytest.raises(ValueError) as error:
            monkeypatch.setattr(module, "OFFICIAL", remote_of(url, published))
            cifar10(True, tmp_path / "data")
        assert names_the_ways(str(error.value)) and "does not match the known hash" in str(error.value)
        assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("download", [True, False])
def test_without_a_network_one_line_names_the_ways(tmp_path, monkeypatch, download):
    start = time.monotonic()
    monkeypatch.setattr(module, "OFFICIAL", Remote("http://127.0.0.1:9/x", "0"))
    with pytest.raises(ValueError) as error:
        cifar10(True, tmp_path, download)
    assert time.monotonic() - start < 20
    assert names_the_ways(str(error.value))


def test_damage_is_an_error_and_no_reason_to_download(tmp_path, monkeypatch, published):
    (tmp_path / ARCHIVES[0]).write_bytes(published[:-9])
    with serving(send(published)) as (url, requests), pytest.raises(ValueError, match="damaged"):
        monkeypatch.setattr(module, "OFFICIAL", remote_of(url, published))
        cifar10(True, tmp_path)
    assert not requests
