"""MNIST's idx files, written here from their description."""

import gzip
import struct

import numpy as np
import pytest

from diffusion.data.mnist import mnist


def idx(array: np.ndarray, magic: int | None = None) -> bytes:
    magic = 0x0800 + array.ndim if magic is None else magic
    return b"".join(struct.pack(">I", word) for word in (magic, *array.shape)) + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays(rng):
    return {part: (rng.integers(0, 256, (n, 6, 5)), rng.integers(0, 10, n)) for part, n in (("train", 7), ("t10k", 3))}


def write(root, arrays, mark="-", compress=False):
    root.mkdir(exist_ok=True)
    for part, (images, labels) in arrays.items():
        for name, array in ((f"{part}-images{mark}idx3-ubyte", images), (f"{part}-labels{mark}idx1-ubyte", labels)):
            content = idx(array)
            (root / (name + ".gz" * compress)).write_bytes(gzip.compress(content) if compress else content)
    return root


def error_of(root, train=True) -> str:
    with pytest.raises(ValueError) as error:
        mnist(train, root)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("compress", [False, True])
def test_the_files_are_read_under_all_their_names(tmp_path, arrays, mark, compress):
    root = write(tmp_path, arrays, mark, compress)
    for train, part in ((True, "train"), (False, "t10k")):
        source = mnist(train, str(root))
        assert (source.name, source.classes, source.shape) == ("mnist", 10, (6, 5, 1))
        np.testing.assert_array_equal(source.arrays[0][..., 0], arrays[part][0])
        np.testing.assert_array_equal(source.arrays[1], arrays[part][1])


def test_a_missing_file_or_folder_is_named(tmp_path, arrays):
    assert "--config.data.dir" in error_of("")
    assert str(tmp_path / "nowhere") in error_of(tmp_path / "nowhere")
    write(tmp_path, arrays)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "train-labels-idx1-ubyte" in error_of(tmp_path)
    assert mnist(False, tmp_path).size == 3


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_damaged_file_is_named(tmp_path, arrays, name, compress):
    content = idx(arrays["train"]["labels" in name])
    for broken in (
        content[:-1],
        content + b"\0",
        content[:9],
        content[:5],
        content[:3],
        b"",
        b"\x00\x00\x0d" + content[3:],  # floats
        content[:4] + b"\xff" * 4 + content[8:],  # four thousand million images
        b"<html>not found</html>",
    ):
        write(tmp_path, arrays)
        (tmp_path / name).unlink()
        path = tmp_path / (name + ".gz" * compress)
        path.write_bytes(gzip.compress(broken) if compress else broken)
        assert error_of(tmp_path).startswith(f"{path}: ")


def test_a_damaged_gzip_file_is_named(tmp_path, arrays):
    path = write(tmp_path, arrays, compress=True) / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for broken in (whole[:-1], whole[:30], b"", bytes(flipped), idx(arrays["train"][0])):
        path.write_bytes(broken)
        assert error_of(tmp_path).startswith(f"{path}: ")


def test_files_that_do_not_fit_each_other_are_named(tmp_path, arrays):
    write(tmp_path, arrays)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(6)))
    assert str(labels) in error_of(tmp_path) and "6 labels" in error_of(tmp_path)
    labels.write_bytes(idx(np.full(7, 10)))
    assert str(labels) in error_of(tmp_path) and "label 10 of image 0" in error_of(tmp_path)
    labels.write_bytes(idx(np.zeros(0)))
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(idx(np.zeros((0, 6, 5))))
    assert "mnist: holds no image" in error_of(tmp_path)
