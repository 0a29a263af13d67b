"""Breaks the code on purpose, one change at a time, and checks that the named tests notice.

    python tests/mutants/run.py                  # all of them; `make mutants`
    python tests/mutants/run.py --only=elbo      # those whose file or change contains a word

Each row of table.py is applied to a copy of the working tree. The tests of all rows must pass there before the first
change; after it, those of the row must fail. Prints one line a row. Exit status 1 if a change survives.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mutants.table import MUTANTS, Mutant  # noqa: E402

PASSED, FAILED = 0, 1
"""Exit codes of pytest. Any other means that nothing was tested."""


def copy_tree(target: Path) -> None:
    """Copies the files that git tracks, as they are in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def pytest(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Runs tests in a tree, slow ones too, until the first that fails."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=tree, capture_output=True, text=True, check=False
    )


def survives(tree: Path, mutant: Mutant) -> str:
    """Why a change counts as not noticed; empty where a test failed by it."""
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return f"{mutant.old!r} occurs {text.count(mutant.old)} times"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        compile(path.read_text(), mutant.file, "exec")
        done = pytest(tree, mutant.tests)
    finally:
        path.write_text(text)
    if done.returncode == PASSED:
        return "all tests passed"
    return "" if done.returncode == FAILED else f"pytest ended with {done.returncode}: {done.stdout[-300:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose file, change or tests contain this text")
    only = parser.parse_args().only
    rows = [m for m in MUTANTS if only in " ".join((m.file, m.old, m.new, *m.tests))]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        done = pytest(tree, tuple(dict.fromkeys(test for m in rows for test in m.tests)))
        if done.returncode != PASSED:
            print(done.stdout[-3000:], "The tests must pass before anything is changed.", sep="\n", file=sys.stderr)
            return 2
        survivors = 0
        for i, mutant in enumerate(rows, 1):
            since = time.monotonic()
            why = survives(tree, mutant)
            survivors += bool(why)
            verdict = f"SURVIVED ({why})" if why else "noticed"
            print(
                f"{i:3}/{len(rows)}  {time.monotonic() - since:4.0f} s  {verdict}  {mutant.file}: {mutant.why}",
                flush=True,
            )
    print(f"{len(rows) - survivors} passed, {survivors} failed")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
