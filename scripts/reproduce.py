"""Prints the published tables with the measured values beside each cell, from the results of the runs below a folder.

    python scripts/reproduce.py                                             # every table, from runs/
    python scripts/reproduce.py --table=ddpm_table1 --format=latex --out=table1.tex
    python scripts/reproduce.py --table=ddim_table1 --commands              # the commands that fill its cells
    python scripts/reproduce.py --milestones=runs/cifar10 --out=milestones.png

A cell is filled only by a run with the published config and steps; other results are listed below the tables with the
reason. Every number has a note with its protocol. Tables: ddpm_table1 to ddpm_table4, ddpm_split, improved_cifar10,
improved_imagenet64, ddim_table1, ddim_table1_celeba64.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import command_line

RUNS = flags.DEFINE_string("runs", "runs", "folder of runs; results are read at any depth below it")
TABLE = flags.DEFINE_list("table", [], "names of the tables, separated by commas; by default all")
FORMAT = flags.DEFINE_enum("format", "markdown", ["markdown", "csv", "latex"], "format of the tables")
OUT = flags.DEFINE_string("out", None, "file to write; by default the tables are printed")
COMMANDS = flags.DEFINE_bool("commands", False, "print the commands that fill the cells that are not filled yet")
MILESTONES = flags.DEFINE_string(
    "milestones", None, "draw loss and FID of this run of configs/cifar10.py beside the values expected by then"
)


def main() -> None:
    from diffusion.commands import reproduce

    if MILESTONES.value:
        folder = Path(MILESTONES.value)
        outs = (
            [Path(OUT.value)] if OUT.value else [folder / "figures" / f"milestones{kind}" for kind in (".png", ".pdf")]
        )
        reproduce.draw_milestones(folder, outs)
        print(*outs, sep="\n")
        return
    runs = Path(RUNS.value)
    if not runs.is_dir() and RUNS.present:
        raise ValueError(f"--runs={runs}: no such folder; give the one that holds the folders of runs")
    if COMMANDS.value:
        text, unused = reproduce.commands(TABLE.value, runs), []
    else:
        text, unused = reproduce.tables(TABLE.value, runs, FORMAT.value)
    for line in unused:
        print(f"not shown   {line}", file=sys.stderr)
    if OUT.value:
        path = Path(OUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)
    else:
        print(text, end="")


if __name__ == "__main__":
    command_line.run(main)
