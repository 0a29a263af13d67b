"""Prints the published tables with measured values beside each cell, from the results of all runs in a folder.

    python scripts/reproduce.py                                             # every table, from runs/
    python scripts/reproduce.py --table=ddpm_table1 --format=latex --out=table1.tex
    python scripts/reproduce.py --table=ddim_table1 --commands              # the commands that fill its cells
    python scripts/reproduce.py --milestones=runs/cifar10 --out=milestones.png

A cell is filled only by a run with the published config and step count; other results are listed below the tables (of
CSV on stderr) with the reason. Every number has a note with its protocol. Tables: ddpm_table1 to ddpm_table4,
ddpm_split, improved_cifar10, improved_imagenet64, ddim_table1, ddim_table1_celeba64.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import command_line
from diffusion.runtime.paths import check_ending, check_file, expanded

RUNS = flags.DEFINE_string("runs", "runs", "folder of runs; results are read at any depth below it")
TABLE = flags.DEFINE_list("table", [], "names of the tables, separated by commas; by default all")
ENDINGS = {"markdown": ".md", "csv": ".csv", "latex": ".tex"}
FORMAT = flags.DEFINE_enum("format", "markdown", list(ENDINGS), "format of the tables")
OUT = command_line.define_path("out", "file to write; by default the tables are printed")
COMMANDS = flags.DEFINE_bool("commands", False, "print the commands that fill the empty cells")
MILESTONES = command_line.define_path(
    "milestones", "draw loss and FID of this run of configs/cifar10.py beside those expected at its steps"
)


def main() -> None:
    from diffusion.commands import reproduce

    if MILESTONES.value:
        if unused := [flag.name for flag in (RUNS, TABLE, FORMAT, COMMANDS) if flag.present]:
            raise ValueError(f"--milestones draws a figure of one run: leave out --{', --'.join(unused)}")
        folder = MILESTONES.value
        outs = [OUT.value] if OUT.value else [folder / "figures" / f"milestones{kind}" for kind in (".png", ".pdf")]
        reproduce.draw_milestones(folder, outs)
        print(*outs, sep="\n")
        return
    runs = expanded(RUNS.value)
    check_file("out", OUT.value)
    if OUT.value and not COMMANDS.value:
        check_ending(OUT.value, FORMAT.value, ENDINGS)
    if not runs.is_dir() and RUNS.present:
        raise ValueError(f"--runs={runs}: no such folder; give the one that holds the folders of runs")
    text, unused = reproduce.text(TABLE.value, runs, "commands" if COMMANDS.value else FORMAT.value)
    for line in unused:
        print(f"not shown   {line}", file=sys.stderr)
    if OUT.value:
        OUT.value.parent.mkdir(parents=True, exist_ok=True)
        OUT.value.write_text(text, encoding="utf-8")
        print(OUT.value)
    else:
        print(text, end="")


if __name__ == "__main__":
    command_line.run(main)
