"""Atomic writes."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from diffusion.runtime import atomic_files

ROOT = Path(__file__).resolve().parents[2]
HAMMER = """
import sys
from pathlib import Path
from diffusion.runtime.atomic_files import write_json
for i in range(100):
    write_json(Path(sys.argv[1]), {"writer": sys.argv[2], "i": i, "filling": "x" * 5000})
"""


def test_many_writers_of_one_file_do_not_meet(tmp_path):
    """Threads and processes that write and read one file: no write fails, reads see a whole one, no draft stays."""
    path = tmp_path / "new" / "result.json"
    atomic_files.write_json(path, {"filling": ""})
    processes = [subprocess.Popen([sys.executable, "-c", HAMMER, path, str(k)], cwd=ROOT) for k in range(2)]

    def write(k: int) -> None:
        for i in range(100):
            atomic_files.write_json(path, {"writer": k, "i": i, "filling": "y" * 5000})
            assert len(json.loads(path.read_text())["filling"]) == 5000

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert [process.wait() for process in processes] == [0, 0]
    assert os.listdir(path.parent) == ["result.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    atomic_files.write_bytes(path, b"old", fsync=True)
    with pytest.raises(type(error)), atomic_files.atomic_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    with pytest.raises(TypeError, match="not JSON serializable"):
        atomic_files.write_json(path, {"a": object()})
    with pytest.raises(type(error)), atomic_files.atomic_path(tmp_path / "folder") as folder:
        atomic_files.write_bytes(folder / "b", b"")
        raise error
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_takes_the_place_of_an_empty_one_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    with atomic_files.atomic_path(tmp_path / "folder") as folder:
        atomic_files.write_npz(folder / "a.npz", {"x": np.arange(3)})
    with np.load(tmp_path / "folder" / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["x"], [0, 1, 2])
    with pytest.raises(OSError, match="not empty"), atomic_files.atomic_path(tmp_path / "folder") as folder:
        folder.mkdir()
    assert os.listdir(tmp_path / "folder") == ["a.npz"] and os.listdir(tmp_path) == ["folder"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    atomic_files.write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
