"""The short form of the fuzz: random overrides and broken data end in one line, or run; `make stress` has more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stress import broken_data

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_configs_and_data_run_or_end_in_one_line():
    command = [sys.executable, "tests/stress/fuzz.py", "--configs=12", "--data=8", "--runs=0", "--seed=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = re.findall(r"^ *(\d+)  (configs|data)  (.*)$", done.stdout, re.MULTILINE)
    counts = {what: {end: int(count) for count, of, end in found if of == what} for what in ("configs", "data")}
    assert sum(counts["configs"].values()) == 13 and sum(counts["data"].values()) == 8
    assert counts["configs"]["refused in one line"] > 5 and counts["configs"]["traced"] > 0, done.stdout
    assert counts["data"]["refused in one line"] > 2, done.stdout
    assert done.stdout.splitlines()[-1].startswith("all as promised")


def test_every_kind_of_data_is_among_the_broken():
    names = [case.name for case in broken_data.CASES]
    assert len(set(names)) == len(names) > 100
    for kind in ("cifar10", "mnist", "folder"):
        ours = [case.usable for case in broken_data.CASES if case.name.startswith(kind)]
        assert ours.count(False) >= 15 and ours.count(True) >= 3


@pytest.mark.parametrize("name", ["16 bits", "floats with NaN", "CMYK", "palettes", "grey with alpha"])
def test_images_are_what_they_are_called(name, tmp_path):
    """What the fuzz hands over is in the mode that it says."""
    from PIL import Image

    modes = {"16 bits": "I;16", "floats with NaN": "F", "CMYK": "CMYK", "palettes": "P", "grey with alpha": "LA"}
    files = next(files for known, files, _, _ in broken_data.FOLDERS if known == name)()
    found = set()
    for file, content in files.items():
        (tmp_path / file).write_bytes(content or b"")
        with Image.open(tmp_path / file) as image:
            found.add(image.mode)
    assert modes[name] in found
