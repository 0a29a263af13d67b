"""Lists, verifies and prunes the checkpoints of a run.

    python scripts/checkpoints.py --workdir=runs/digits              # every step: size, age, state, scores
    python scripts/checkpoints.py --workdir=runs/digits --verify     # reads all of them and compares the hashes
    python scripts/checkpoints.py --workdir=runs/digits --prune=1    # keeps the newest intact one of checkpoints/

--verify exits with status 1 if any step is not intact. --prune deletes only older intact steps of checkpoints/, and of
classifier/ in the run of a classifier: no permanent checkpoints, no damaged ones, and never the last intact one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import command_line

WORKDIR = command_line.define_path("workdir", "folder of the run (required)")
VERIFY = flags.DEFINE_bool("verify", False, "read every file and compare it with its hash")
PRUNE = flags.DEFINE_integer("prune", None, "delete all but this many of the newest intact steps", lower_bound=1)


def main() -> int:
    from diffusion.commands import checkpoints

    return checkpoints.run(command_line.required(WORKDIR.value), VERIFY.value, PRUNE.value)


if __name__ == "__main__":
    command_line.run(main)
