"""Runs an ablation: every row of a grid with every seed, and one table of what they gave beside the paper's values.

    python scripts/ablate.py --grid=configs/ablations/ho_table2.py                     # table 2 of DDPM on 8x8 digits
    python scripts/ablate.py --grid=configs/ablations/ho_table2.py --size=cifar10 --seeds=0 --list > jobs.sh
    python scripts/ablate.py --grid=configs/ablations/improved.py --size=mnist --config.data.dir=PATH

Started again, it goes on where it stopped: finished rows are kept, an interrupted one goes on from its checkpoint. On
SIGTERM or Ctrl-C it finishes the step, saves and ends with status 75; a second one ends it at once. A row that diverges
is reported as diverged, and the others are run. On a cluster, start the commands of --list, each of which runs one row
with one seed, and at the end the same command with --table.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import cli, setup
from diffusion.runtime.signals import Stop

GRID = flags.DEFINE_string("grid", None, "file of the grid, such as configs/ablations/ho_table2.py (required)")
SIZE = flags.DEFINE_string("size", "digits", "data and budget: digits, mnist_small, mnist or cifar10")
SEEDS = flags.DEFINE_string("seeds", "0,1", "seeds that every row is run with, separated by commas")
OUT = flags.DEFINE_string("out", None, "folder of the runs and tables; by default runs/ablations/<grid>_<size>")
ROW = flags.DEFINE_integer(
    "row",
    None,
    "run this cell alone: row number times number of seeds plus seed number, both from 0, as --list has them",
)
LIST = flags.DEFINE_bool("list", False, "print the command of each cell, and stop")
TABLE = flags.DEFINE_bool("table", False, "write the tables of what is finished, and stop")
OVERRIDES = cli.define_overrides()


def main() -> None:
    from diffusion.config import ablation

    if not GRID.value:
        raise ValueError("--grid is required: a file such as configs/ablations/ho_table2.py")
    grid = ablation.load(GRID.value, SIZE.value, OVERRIDES.value)
    out = Path(OUT.value or Path("runs") / "ablations" / f"{grid.name}_{SIZE.value}")
    cells = ablation.cells(grid, seeds(), out)
    if LIST.value:
        print("\n".join(ablation.commands(cells, arguments(out))))
        return
    chosen = cells
    if ROW.value is not None:
        if not 0 <= ROW.value < len(cells):
            raise ValueError(f"--row={ROW.value} is not one of 0..{len(cells) - 1}; --list shows them")
        chosen = [cells[ROW.value]]

    setup.configure(grid.base.compilation_cache)

    from diffusion.commands import ablate

    def write() -> list[Path]:
        return ablate.write(ablate.table(grid, cells), out)

    if not TABLE.value:
        # Jobs that run one cell each would write the tables at the same time: --table does it when they are done.
        with Stop.on_signals(resumable=True) as stop:
            ablate.run(grid, chosen, say, write if ROW.value is None else lambda: None, stop)
    if ROW.value is None:
        for path in write():
            print(path)


def seeds() -> list[int]:
    """The seeds asked for, each once."""
    try:
        found = [int(text) for text in SEEDS.value.split(",")]
    except ValueError as error:
        raise ValueError(f"--seeds={SEEDS.value}: give whole numbers, such as --seeds=0,1,2") from error
    if len(set(found)) < len(found) or not all(0 <= seed < 2**32 for seed in found):
        raise ValueError(f"--seeds={SEEDS.value}: give different numbers from 0 to 4294967295")
    return found


def arguments(out: Path) -> list[str]:
    """The command line of this call without what selects a cell."""
    given = [f"--grid={GRID.value}", f"--size={SIZE.value}", f"--seeds={SEEDS.value}", f"--out={out}"]
    return ["scripts/ablate.py", *given, *(f"--config.{key}={text}" for key, text in OVERRIDES.value)]


def say(line: str) -> None:
    """The console report goes to stderr, so that it appears at once and does not mix with results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
