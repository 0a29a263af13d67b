"""Sets drawn in parts: two processes at once, and parts written from time to time."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from diffusion.evaluation import draw_and_store_sample_sets

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (2, 2, 1)
PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from diffusion.evaluation import draw_and_store_sample_sets

folder, size, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

def batches(first):
    for i in range(first, 40, size):
        time.sleep(seconds * (i == 16))
        n = min(size, 40 - i)
        yield np.arange(i, i + n, dtype=np.uint8).repeat(4).reshape(n, 2, 2, 1), np.ones(n, bool)

draw_and_store_sample_sets.SECONDS = 0.0
try:
    pixels, _ = draw_and_store_sample_sets.resumed(folder, 40, batches, lambda done: print(done, flush=True))
    print("values", *pixels[:, 0, 0, 0])
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
    return draw_and_store_sample_sets.resumed(folder, n, lambda first: batches(n, 4, first), lambda done: None)[0]  # noqa: ARG005


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


def test_a_free_lock_is_taken_although_its_file_remains(tmp_path):
    (tmp_path / "lock").write_text("process 1 on nowhere\n")
    assert draw(tmp_path)[:, 0, 0, 0].tolist() == list(range(40))


def test_a_signal_at_any_instruction_leaves_no_wrong_part(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_and_store_sample_sets, "write_npz", lambda path, arrays: np.savez(path, **arrays))  # fast
    left = 0

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename != draw_and_store_sample_sets.__file__ or frame.f_code.co_name not in (
            "resumed",
            "write",
        ):
            return None
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if event == "opcode" and left == 0:
            raise KeyboardInterrupt
        return trace

    for n in range(1, 10_000):
        left, folder = n, tmp_path / str(n)
        draw(folder, 4)
        sys.settrace(trace)
        with suppress(KeyboardInterrupt):
            draw(folder, 12)
        sys.settrace(None)
        assert draw(folder, 12)[:, 0, 0, 0].tolist() == list(range(12)), n
        if left > 0:  # all of them were tried
            return


def test_parts_are_written_after_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_and_store_sample_sets, "SECONDS", 0.0)
    monkeypatch.setattr(time, "monotonic", iter(np.arange(1e3)).__next__)
    draw(tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 10
