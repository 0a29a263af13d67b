"""Runs an ablation: every row of a grid with every seed, and one table of the results beside the paper's values.

    python scripts/ablate.py --grid=configs/ablations/ho_table2.py                     # table 2 of DDPM on 8x8 digits
    python scripts/ablate.py --grid=configs/ablations/ho_table2.py --size=cifar10 --seeds=0 --list > jobs.sh
    python scripts/ablate.py --grid=configs/ablations/improved_ddpm_tables.py --size=mnist --config.data.dir=PATH

Repeat the command to resume: finished rows are skipped, and an interrupted row continues from its checkpoint. On
SIGTERM or Ctrl-C the script finishes the step, saves and exits with status 75; a second signal ends it at once. A row
that diverges is reported as diverged, and the others run. On a cluster, run the commands that --list prints, one for
each row and seed, those that evaluate other rows' networks after the others, and at the end the command with --table.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, config_flag, workdir_and_data_flags
from diffusion.runtime.paths import expanded
from diffusion.runtime.signals import Stop

GRID = flags.DEFINE_string("grid", None, "file of the grid, such as configs/ablations/ho_table2.py (required)")
SIZE = flags.DEFINE_string("size", "digits", "data and budget: digits, mnist_small, mnist or cifar10")
SEEDS = flags.DEFINE_string("seeds", "0,1", "seeds that every row is run with, separated by commas")
OUT = command_line.define_path("out", "folder of the runs and tables; by default runs/ablations/<grid>_<size>")
ROW = flags.DEFINE_integer(
    "row",
    None,
    "run only the cell of this number, as --list has it: index of the row times number of seeds plus index of the seed",
)
LIST = flags.DEFINE_bool("list", False, "print the command of each cell, and stop")
TABLE = flags.DEFINE_bool("table", False, "write the tables of the finished cells, and stop")
CHANGED = workdir_and_data_flags.define_data_changed()
OVERRIDES = config_flag.define_overrides()


def main() -> None:
    from diffusion.config import ablation_grid

    if not GRID.value:
        raise ValueError("--grid is required: a file such as configs/ablations/ho_table2.py")
    alone = {"--row": ROW.value is not None, "--list": LIST.value, "--table": TABLE.value}
    if sum(alone.values()) > 1:
        raise ValueError(f"{' and '.join(flag for flag in alone if alone[flag])} exclude each other: give one of them")
    grid = ablation_grid.load(GRID.value, SIZE.value, OVERRIDES.overrides)
    out = expanded(OUT.value or Path("runs") / "ablations" / f"{grid.name}_{SIZE.value}")
    cells = ablation_grid.cells(grid, ablation_grid.parse_seeds(SEEDS.value), out)
    if TABLE.value and not out.is_dir():
        raise ValueError(f"--out={out}: there is no such folder; give that of the ablation's results")
    if LIST.value:
        arguments = [f"--grid={GRID.value}", f"--size={SIZE.value}", f"--seeds={SEEDS.value}", f"--out={out}"]
        arguments += [f"--config.{key}={value}" for key, value in OVERRIDES.overrides.items()]
        arguments += [f"--data_changed={CHANGED.value}"] * bool(CHANGED.value)
        print("\n".join(ablation_grid.commands(cells, ["scripts/ablate.py", *arguments])))
        return
    chosen = ablation_grid.choose(cells, ROW.value)
    with Stop.on_signals(resumable=True) as stop:
        before_jax.configure(grid.base.compilation_cache, grid.base.deterministic)

        from diffusion.commands import ablate, ablation_table

        def write_tables() -> list[Path]:
            return ablation_table.write(ablation_table.table(grid, cells), out)

        if not TABLE.value:
            # Jobs of one cell each would write the tables at the same time: --table writes them at the end.
            after_each = write_tables if ROW.value is None else lambda: None
            ablate.run_cells(grid, chosen, command_line.report, after_each, stop, bool(CHANGED.value))
        if ROW.value is None:
            for path in write_tables():
                print(path)


if __name__ == "__main__":
    command_line.run(main)
