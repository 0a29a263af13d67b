"""Sets drawn in parts: two processes at once, and files that changed after they were listed."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diffusion.evaluation import resumable_samples
from diffusion.metrics.image_set import ImageSet
from diffusion.runtime.atomic_files import write_npz

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (2, 2, 1)
PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from diffusion.evaluation import resumable_samples as image_parts
from diffusion.evaluation import resumable_samples

folder, size, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

def batches(first):
    for i in range(first, 40, size):
        time.sleep(seconds * (i == 16))
        n = min(size, 40 - i)
        yield np.arange(i, i + n, dtype=np.uint8).repeat(4).reshape(n, 2, 2, 1), np.ones(n, bool)

image_parts.at_once = lambda shape: size
try:
    images = image_parts.draw(folder, (2, 2, 1), 40, batches, lambda done: print(done, flush=True))
    print("values", *images.pixels()[:, 0, 0, 0])
except ValueError as error:
    print(error)
"""


def start(folder, size, seconds):
    command = [sys.executable, "-c", PROCESS, str(folder), str(size), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def batches(n, size=4, first=0):
    for i in range(first, n, size):
        stop = min(i + size, n)
        yield np.arange(i, stop, dtype=np.uint8).repeat(4).reshape(-1, *SHAPE), np.ones(stop - i, bool)


def draw(folder, n=40):
    return resumable_samples.draw(folder, SHAPE, n, lambda first: batches(n, 4, first), lambda done: None)  # noqa: ARG005


def test_two_processes_draw_no_image_twice(tmp_path):
    """With other batch sizes; the second one is refused while the first draws, and resumes once it was killed."""
    first = start(tmp_path, 8, 600.0)
    assert first.stdout is not None
    while first.stdout.readline().strip() != "16":
        assert first.poll() is None
    refused = start(tmp_path, 11, 0.0).communicate(timeout=120)[0]
    assert refused.startswith(f"{tmp_path} is in use by process {first.pid} on ") and "then run this again" in refused
    first.kill()
    first.wait()
    done = start(tmp_path, 11, 0.0).communicate(timeout=120)[0].splitlines()
    assert int(done[0]) >= 8 and done[-1] == " ".join(["values", *map(str, range(40))])
    assert not (tmp_path / "lock").exists()


def test_a_free_lock_is_taken_although_its_file_remains(tmp_path):
    (tmp_path / "lock").write_text("process 1 on nowhere\n")
    assert draw(tmp_path).pixels()[:, 0, 0, 0].tolist() == list(range(40))


def test_parts_that_change_after_they_were_found_are_refused(tmp_path, monkeypatch):
    """What 44 images counted as 40, 4 of them twice, came from: another process wrote a longer part."""
    monkeypatch.setattr(resumable_samples, "at_once", lambda shape: 8)  # noqa: ARG005
    images = draw(tmp_path)
    longer = np.zeros((12, *SHAPE), np.uint8)
    write_npz(tmp_path / "images_0000008.npz", {"pixels": longer, "finite": np.ones(12, bool)})
    with pytest.raises(ValueError, match=r"images_0000008\.npz holds 12 images instead of 8: another process"):
        images.pixels()
    assert [part.stop for part in resumable_samples.find(tmp_path, SHAPE)] == [8, 20], "what follows is drawn again"
    assert draw(tmp_path).pixels()[20:, 0, 0, 0].tolist() == list(range(20, 40))


def test_a_set_that_lacks_images_is_refused():
    images = ImageSet(9, SHAPE, lambda: iter([np.zeros((4, *SHAPE), np.uint8)] * 2))
    for read in (images.pixels, lambda: list(images.chunks(3))):
        with pytest.raises(ValueError, match="a set of 9 images holds only 8"):
            read()
    assert len(images.first(7).pixels()) == 7 and [len(b) for b in images.first(7).blocks()] == [4, 3]


def test_parts_are_written_after_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(resumable_samples, "SECONDS", 0.0)
    monkeypatch.setattr(time, "monotonic", iter(np.arange(1e3)).__next__)
    draw(tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 10
