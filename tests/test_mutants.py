"""tests/mutants/: every row can be applied to the code of today, and every row of docs/paper_to_code.md has one."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS
from tests.test_paper_to_code import PLACE, ROWS

ROOT = Path(__file__).resolve().parents[1]


@cache
def functions(path: str) -> frozenset[str]:
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in MUTANTS}))
def test_every_change_can_be_made(file):
    """The old text occurs once, the new one is Python and something else, and the named test exists."""
    text = (ROOT / file).read_text()
    for mutant in (mutant for mutant in MUTANTS if mutant.file == file):
        assert text.count(mutant.old) == 1, f"{mutant.old!r} occurs {text.count(mutant.old)} times"
        assert mutant.old != mutant.new, mutant.fault
        ast.parse(text.replace(mutant.old, mutant.new))
        path, _, name = mutant.test.partition("::")
        assert name in functions(path), mutant.test


def test_no_change_is_listed_twice():
    changes = Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS)
    assert [change for change, n in changes.items() if n > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip() + ":" + row.split("|")[2].strip())
def test_every_row_of_the_map_is_held_by_its_test(row):
    """A change to the file of the row's function must be among those that the row's test notices."""
    (file, _), (path, name) = PLACE.findall(row)
    assert any(mutant.file == file and mutant.test == f"{path}::{name}" for mutant in MUTANTS)
