"""Computes a weight average of any width from the checkpoints of a run trained with config.optim.power_ema.

    python scripts/train.py --config=configs/digits.py --config.optim.power_ema=true --config.train.keep_every=100
    python scripts/ema.py --workdir=runs/digits --width=0.15
    python scripts/sample.py --workdir=runs/digits_ema_0.15

The width is relative to the length of training: 0.05 averages the last updates, 0.25 nearly all equally. The result is
a run's folder whose averaged weights have that width. More permanent checkpoints make the average more exact.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line

WORKDIR = command_line.define_path("workdir", "folder of the run (required)")
WIDTH = flags.DEFINE_float("width", None, "width of the average, above 0 and below 0.2887 (required)")
STEP = flags.DEFINE_integer("step", None, "step at which the average ends; by default the newest")
OUT = command_line.define_path("out", "folder to write; by default <workdir>_ema_<width>")


def main() -> None:
    if not WORKDIR.value or WIDTH.value is None:
        raise ValueError("--workdir and --width are required: the folder of a run, and a number such as 0.1")
    folder = WORKDIR.value
    named = folder if folder.name else folder.absolute()  # "." has no name
    out = OUT.value or named.with_name(f"{named.name}_ema_{WIDTH.value:g}")

    before_jax.configure()

    from diffusion.commands import ema

    ema.reconstruct(folder, out, WIDTH.value, STEP.value, print)


if __name__ == "__main__":
    command_line.run(main)
