"""Trains a diffusion model, or goes on with a run that stopped.

python scripts/train.py                                        # handwritten digits, minutes on a CPU
python scripts/train.py --config=configs/cifar10.py            # the paper's CIFAR-10 experiment
python scripts/train.py --config=configs/cifar10.py --config.optim.lr=1e-4 --workdir=runs/slow
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion import cli, runtime

CONFIG = cli.define_config("configs/digits.py")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; by default runs/<config name>")


def main() -> None:
    config = CONFIG.value
    runtime.configure(config.compilation_cache)

    from diffusion import experiment

    experiment.run(config, Path(WORKDIR.value or Path("runs") / CONFIG.name), say)


def say(line: str) -> None:
    """The console report goes to stderr, so that it appears at once and does not mix with results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
