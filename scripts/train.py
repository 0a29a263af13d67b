"""Trains a diffusion model, or goes on with a run that stopped.

python scripts/train.py                                        # handwritten digits, minutes on a CPU
python scripts/train.py --config=configs/cifar10.py            # the paper's CIFAR-10 experiment
python scripts/train.py --config=configs/cifar10.py --config.optim.lr=1e-4 --workdir=runs/slow

Started again, it goes on from its newest intact checkpoint. On SIGTERM or Ctrl-C it finishes the step, saves and ends
with status 75; a second one ends it at once. docs/reliability.md has the list of what it survives. With --distributed
it is one of several processes that train together; docs/clusters.md has the recipes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.distributed import joining
from diffusion.distributed.place import place
from diffusion.runtime import cli, setup
from diffusion.runtime.signals import Stop
from diffusion.workdir.manifest import newest

CONFIG = cli.define_config("configs/digits.py")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; by default runs/<config name>")
PROFILE = flags.DEFINE_bool("profile", False, "trace a few steps into the run's folder, for TensorBoard or Perfetto")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "be one of several processes, which train together")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 is met, where no cluster tells")
PROCESSES = flags.DEFINE_integer("processes", None, "how many processes there are", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "which of them this is, from 0", lower_bound=0)
START_TIMEOUT = flags.DEFINE_integer(
    "start_timeout", joining.START_TIMEOUT, "seconds within which all processes must have come", lower_bound=1
)


def main() -> None:
    config = CONFIG.value
    setup.configure(config.compilation_cache)

    folder = Path(WORKDIR.value or Path("runs") / CONFIG.name)
    limit = float(START_TIMEOUT.value)
    given = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
    several = DISTRIBUTED.value or any(value is not None for value in given)

    with (
        Stop.on_signals(resumable=True) as stop,
        joining.joined(place(*given, limit) if several else None, config, folder, limit, lambda: newest(folder)),
    ):
        from diffusion.commands import train

        train.run(config, folder, say, stop, PROFILE.value)


def say(line: str) -> None:
    """The console report goes to stderr, so that it appears at once and does not mix with results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
