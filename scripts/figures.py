"""Draws the figures of a run.

python scripts/figures.py --workdir=runs/digits                     # figures/loss.png and .pdf in the run's folder
python scripts/figures.py --workdir=runs/digits --out=docs/images/digits_loss.png
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion import cli

WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run (required)")
OUT = flags.DEFINE_string("out", None, "file to write, .png or .pdf; by default both, in the run's folder")


def main() -> None:
    if not WORKDIR.value:
        raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
    folder = Path(WORKDIR.value)
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise ValueError(f"{folder} holds no run (no metrics.jsonl in it); give the --workdir of a run")

    from diffusion.figures.loss import loss

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    figure = loss(lines, folder.resolve().name)
    outs = [Path(OUT.value)] if OUT.value else [folder / "figures" / f"loss.{kind}" for kind in ("png", "pdf")]
    for out in outs:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150)
        print(out)


if __name__ == "__main__":
    cli.run(main)
