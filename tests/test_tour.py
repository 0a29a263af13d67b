"""docs/tour.md runs, and prints what it says; docs/tour.ipynb is made from it."""

import contextlib
import io
import json
import re
import runpy
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


def test_the_notebook_is_made_from_the_tour():
    made = runpy.run_path(str(ROOT / "docs" / "make_notebook.py"))["text"]()
    assert (ROOT / "docs" / "tour.ipynb").read_text() == made, "run `make notebook`"


def test_cells_hold_every_block_with_what_it_prints():
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"][1:]
    blocks = BLOCK.findall((ROOT / "docs" / "tour.md").read_text())
    assert ["".join(cell["source"]) + "\n" for cell in code] == [text for kind, text in blocks if kind == "python"]
    printed = [output["text"] for cell in code for output in cell["outputs"]]
    assert ["".join(lines) for lines in printed] == [text for kind, text in blocks if kind == "text"]
