"""docs/tour.md runs, and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_tour_prints_what_it_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / "docs" / "tour.md").read_text())
    assert [kind for kind, _ in blocks].count("text") >= 5
    space: dict = {}
    printed = ""
    for kind, text in blocks:
        if kind == "text":
            assert printed == text
            printed = ""
        else:
            assert not printed, f"printed, and not in the tour: {printed}"
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, "docs/tour.md", "exec"), space)
            printed = out.getvalue()
    assert not printed
