"""Lists and verifies the checkpoints of a run.

    python scripts/checkpoints.py --workdir=runs/digits              # every step: size, age
    python scripts/checkpoints.py --workdir=runs/digits --verify     # reads all of them and compares the hashes

--verify exits with status 1 if any step is not intact. A step that is no longer needed can be deleted with its folder.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import command_line

WORKDIR = command_line.define_path("workdir", "folder of the run (required)")
VERIFY = flags.DEFINE_bool("verify", False, "read every file and compare it with its hash")


def main() -> int:
    from diffusion.commands import checkpoints

    return checkpoints.run(command_line.required(WORKDIR.value), VERIFY.value)


if __name__ == "__main__":
    command_line.run(main)
