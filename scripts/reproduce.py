"""Prints the published tables with our measurements beside each cell, from the results of the runs below a folder.

    python scripts/reproduce.py                                             # every table, from runs/
    python scripts/reproduce.py --table=ddpm_table1 --format=latex --out=table1.tex
    python scripts/reproduce.py --table=ddim_table1 --commands              # what would fill its cells, and the cost
    python scripts/reproduce.py --milestones=runs/cifar10 --out=milestones.png

A number stands in a cell only if its run has the published config and has taken the published steps; what else was
found is listed below the tables with the reason. Every number has a note with its protocol. Tables: ddpm_table1 to
ddpm_table4, ddpm_split, improved_cifar10, improved_imagenet64, ddim_table1, ddim_table1_celeba64.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import cli

RUNS = flags.DEFINE_string("runs", "runs", "folder of runs; results are found at any depth below it")
TABLE = flags.DEFINE_list("table", [], "names of the tables, separated by commas; by default all")
FORMAT = flags.DEFINE_enum("format", "markdown", ["markdown", "csv", "latex"], "how the tables are written")
OUT = flags.DEFINE_string("out", None, "file to write; by default the tables are printed")
COMMANDS = flags.DEFINE_bool("commands", False, "print what to run for each cell that is not filled, and its cost")
TFLOPS = flags.DEFINE_float(
    "tflops",
    100.0,
    "sustained TFLOP/s for the hours of --commands; the paper's TPU v3-8 trained at 100, 21 steps/s",
)
MILESTONES = flags.DEFINE_string(
    "milestones", None, "draw loss and FID of this run of configs/cifar10.py into the bands that are expected"
)


def main() -> None:
    if MILESTONES.value:
        draw(Path(MILESTONES.value))
        return

    from diffusion.published import all_tables, eligibility, filling, render
    from diffusion.published.commands import commands

    chosen = all_tables.choose(TABLE.value)
    if TFLOPS.value <= 0:
        raise ValueError(f"--tflops={TFLOPS.value:g}: give a number above 0, such as --tflops=100")
    root = Path(RUNS.value)
    if not root.is_dir() and flags.FLAGS["runs"].present:
        raise ValueError(f"--runs={root}: no such folder; give the one that holds the folders of runs")
    found = eligibility.survey(root)
    comparison = filling.compare(all_tables.tables(), found)
    if COMMANDS.value:
        text = commands(chosen, comparison, found, root, TFLOPS.value * 1e12)
    else:
        text = render.FORMATS[FORMAT.value](chosen, comparison)
        if render.FORMATS[FORMAT.value] is render.comma_separated:
            for line in comparison.left:  # a CSV file has no place for them
                print(f"left out    {line}", file=sys.stderr)
    if OUT.value:
        path = Path(OUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)
    else:
        print(text, end="")


def draw(folder: Path) -> None:
    """The milestones' figure of a run."""
    from diffusion.figures.milestones import milestones
    from diffusion.figures.style import save
    from diffusion.published import milestones as published

    departs = published.faults(folder)
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    figure = milestones(
        lines,
        published.scores(folder),
        published.LOSS,
        published.FID,
        published.AT_START,
        published.TOLERANCE,
        f"{folder.resolve().name}, and an independent run of the published recipe",
        "; ".join(departs),
    )
    outs = [Path(OUT.value)] if OUT.value else [folder / "figures" / f"milestones.{kind}" for kind in ("png", "pdf")]
    for out in outs:
        save(figure, out)
        print(out)


if __name__ == "__main__":
    cli.run(main)
