"""Breaks the code on purpose, one change at a time, and checks that the named test notices.

    python tests/mutants/run.py                  # all of them; `make mutants`
    python tests/mutants/run.py --only=elbo      # those of which some field contains a text

Each row of table.py is applied to a copy of the working tree. The tests of all rows must pass there before the first
change; after it, that of the row must fail. Prints one line a row. Exit status 1 if a change survives.

Every run of pytest is a fork of this process, which has imported the libraries once. Compiled programs come from the
cache of the test suite.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import tests.conftest  # noqa: E402, F401  (sets what JAX reads when it is imported)
from tests.mutants.mutant import Mutant  # noqa: E402
from tests.mutants.table import MUTANTS  # noqa: E402

LIBRARIES = (
    "beartype",
    "flax.linen",
    "jax",
    "jaxtyping",
    "matplotlib",
    "ml_collections",
    "optax",
    "pytest",
    "scipy.stats",
)
PASSED, FAILED = 0, 1
"""Exit codes of pytest. Any other means that nothing was tested."""


def copy_tree(target: Path) -> None:
    """Copies the files that git tracks, as they are in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def pytest(tree: Path, *tests: str) -> tuple[int, str]:
    """Runs tests in a tree, slow ones too, until the first that fails: pytest's exit code and its output."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow"]
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            os.chdir(tree)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.path.remove(str(ROOT))
            for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
                del sys.modules[name]
            code = 4  # pytest's own for an error of use
            try:
                from pytest import main as run

                code = int(run([*options, *tests]))
            finally:
                sys.stdout.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read()


def survives(tree: Path, mutant: Mutant, number: int) -> str:
    """Why a change counts as not noticed; empty where a test failed by it."""
    path = tree / mutant.file
    text, before = path.read_text(), path.stat()
    if text.count(mutant.old) != 1:
        return f"{mutant.old!r} occurs {text.count(mutant.old)} times"
    changed = text.replace(mutant.old, mutant.new)
    compile(changed, mutant.file, "exec")
    path.write_text(changed)
    os.utime(path, (number, number))  # else bytecode of the same second and length would be taken for the file's
    try:
        code, output = pytest(tree, mutant.test)
    finally:
        path.write_text(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    if code == PASSED:
        return "all tests passed"
    return "" if code == FAILED else f"pytest ended with {code}: {output[-300:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows of which some field contains this text")
    only = parser.parse_args().only
    rows = [m for m in MUTANTS if only in " ".join(m)]
    if not rows:
        parser.error(f"--only={only}: no row contains this text")
    for name in LIBRARIES:
        __import__(name)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        code, output = pytest(tree, *dict.fromkeys(m.test for m in rows))
        if code != PASSED:
            print(output[-3000:], "The tests must pass before anything is changed.", sep="\n", file=sys.stderr)
            return 2
        survivors = 0
        for i, mutant in enumerate(rows, 1):
            since = time.monotonic()
            why = survives(tree, mutant, i)
            survivors += bool(why)
            verdict = f"SURVIVED ({why})" if why else "noticed"
            print(
                f"{i:3}/{len(rows)}  {time.monotonic() - since:4.0f} s  {verdict}  {mutant.file}: {mutant.fault}",
                flush=True,
            )
    print(f"{len(rows) - survivors} passed, {survivors} failed")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
