""".npz files that promise more than they hold: each ends in one line, within bounds of time and memory."""

import io
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from diffusion.evaluation import draw_and_store_sample_sets
from diffusion.metrics import cache_on_disk, read_and_write_sample_sets
from diffusion.runtime import npz_reader
from diffusion.runtime.atomic_files import write_npz
from tests.support.limits import refusal_within_limits

SHAPE = (8, 8, 1)
MAGIC = b"\x93NUMPY"


def npy(header: str, version: int = 1, length: int | None = None) -> bytes:
    """The start of an .npy file with this header, which may lie about its length."""
    size = len(header) if length is None else length
    return MAGIC + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", size) + header.encode()


def described(shape: str, dtype: str = "'|u1'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n"


HOSTILE = {
    "too many numbers": npy(described("(100000000000000, 8, 8, 1)")),
    "more than memory": npy(described("(100000000, 8, 8, 1)")),
    "dimensions whose product is small": npy(described("(-1, -64)")),
    "a long header": npy("", 2, 2**32 - 1) + b" " * 10_000_000,
    "no header": b"",
    "nested types": npy(described("(1,)", "[" * 4000)),
    "nested signs": npy(described(f"({'-' * 9000}1,)")),
    "an unfinished header": npy("{'descr': ("),
    "Python 2's numbers": npy(described("(1L, (")),
    "objects": npy(described("(1,)", "'|O'")) + b"\x80\x04.",
    "another format": npy(described("(1,)"), 3),
}


def archive(path: Path, content: bytes, *names: str, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name in names or ("arr_0.npy", "pixels.npy"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of two members with one name
                file.writestr(name, content)
    return path


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused_in_a_line_by_all_readers(content, tmp_path):
    path = archive(tmp_path / "images_0000000.npz", content)
    readers = (npz_reader.read, lambda path: read_and_write_sample_sets.read(path, SHAPE))
    for reader in readers:
        with pytest.raises(ValueError, match=r".") as error:
            reader(path)
        assert len(str(error.value).splitlines()) == 1 and str(path) in str(error.value)
    assert draw_and_store_sample_sets.stored(tmp_path, 1) == [], "the part is drawn again"
    with pytest.warns(UserWarning, match="cannot be read and is computed again") as caught:
        assert cache_on_disk.read(path) == {}
    assert len(str(caught[0].message).splitlines()) == 1


@pytest.mark.parametrize("name", ["too many numbers", "more than memory"])
def test_what_is_refused_costs_neither_time_nor_memory(tmp_path, name):
    path = archive(tmp_path / "promises.npz", HOSTILE[name])
    assert "is damaged" in refusal_within_limits("diffusion.runtime.npz_reader.read", path)


def test_whole_archives_are_read(tmp_path, rng):
    arrays = {"a": rng.normal(size=(3, 4)), "b": np.asarray("text"), "c": np.zeros((0, 2), bool), "d": np.asarray(7)}
    write_npz(tmp_path / "a.npz", arrays)
    found = npz_reader.read(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    member = io.BytesIO()
    np.lib.format.write_array(member, arrays["a"].T, version=(2, 0))
    path = archive(tmp_path / "b.npz", member.getvalue(), "a.npy")
    np.testing.assert_array_equal(npz_reader.read(path)["a"], arrays["a"].T)
    with pytest.raises(FileNotFoundError):
        npz_reader.read(tmp_path / "none.npz")
