"""docs/paper_to_code.md: everything it points at exists, and no equation of DDPM is left out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "paper_to_code.md").read_text()
PLACE = re.compile(r"`((?:diffusion|tests|scripts)/[\w/]+\.py): (\w+)`")
ROWS = [line for line in TEXT.splitlines() if PLACE.search(line)]
DDPM = TEXT.split("## Denoising Diffusion Probabilistic Models")[1].split("\n## ")[0]
EQUATIONS, ALGORITHMS = 26, 4
"""Of the DDPM paper, appendix included."""
DERIVATIONS = set(range(17, 27))
"""Lines of the appendix that lead from one form of the bound to another."""


@cache
def names(path: Path) -> frozenset[str]:
    """What a file defines at its top level."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        found.update(target.id for target in targets if isinstance(target, ast.Name))
    return frozenset(found)


def spelt(text: str) -> set[int]:
    """The numbers of "9, 11-13"."""
    found = set()
    for part in filter(None, (part.strip(" -") for part in text.split(","))):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def numbers(section: str, word: str) -> set[int]:
    """Every number named after a word in the first column of a section's rows, ranges and lists spelt out."""
    found = set()
    for row in section.splitlines():
        match = re.match(rf"\| {word}s?\.? ([\d, -]+) \|", row)
        found |= spelt(match[1]) if match else set()
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip() + ":" + row.split("|")[2].strip())
def test_every_place_exists(row):
    places = PLACE.findall(row)
    assert len(places) == 2, "one function and one test"
    for path, name in places:
        assert name in names(ROOT / path), f"{path} has no {name}"
    assert places[1][0].startswith("tests/") and places[1][1].startswith("test_")


def test_no_row_escapes():
    """A misspelt path would make a row none to the test above."""
    sections = TEXT.split("\n## ")[1:]
    lines = [line for section in sections for line in section.splitlines() if line.startswith("| ")]
    assert [line for line in lines if line not in ROWS and not line.startswith("| where |")] == []


def test_ddpm_is_complete():
    assert numbers(DDPM, "eq") == set(range(1, EQUATIONS + 1))
    assert numbers(DDPM, "algorithm") == set(range(1, ALGORITHMS + 1))


def test_equations_of_ddpm_lead_to_the_files_that_name_them():
    """A row's file names its equation in a docstring: whoever looks for "eq. 7" finds it where the map says."""
    for row in DDPM.splitlines():
        for n in sorted(numbers(row, "eq") - DERIVATIONS):
            path = PLACE.findall(row)[0][0]
            found = re.findall(r"eq\. ([\d, -]+)", (ROOT / path).read_text())
            assert any(n in spelt(text) for text in found), f"{path} does not name eq. {n}"
