"""Trains a diffusion model, or resumes a run that stopped.

python scripts/train.py                                        # handwritten digits, minutes on a CPU
python scripts/train.py --config=configs/cifar10.py            # the paper's CIFAR-10 experiment
python scripts/train.py --config=configs/cifar10.py --config.optim.lr=1e-4 --workdir=runs/slow

Repeat the command to resume from the newest intact checkpoint. On SIGTERM or Ctrl-C the script finishes the step, saves
and exits with status 75; a second signal ends it at once (docs/reliability.md). With --distributed it trains as one of
several processes (docs/several_hosts.md).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.distributed.initialize import Processes, initialized
from diffusion.runtime import before_jax, command_line, config_flag, workdir_and_data_flags
from diffusion.runtime.paths import expanded
from diffusion.runtime.signals import Stop

CONFIG = config_flag.define_config("configs/digits.py")
CHANGED = workdir_and_data_flags.define_data_changed()
WORKDIR = command_line.define_path("workdir", "folder of the run; by default runs/<config name>")
PROFILE = flags.DEFINE_bool("profile", False, "trace a few steps into the run's folder, for TensorBoard or Perfetto")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "train as one of several processes, found from the cluster")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 listens; implies --distributed")
PROCESSES = flags.DEFINE_integer("processes", None, "number of processes; implies --distributed", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "number of this process, from 0; implies --distributed", lower_bound=0)
START_TIMEOUT = flags.DEFINE_integer(
    "start_timeout", Processes().timeout, "seconds within which all processes must have started", lower_bound=1
)


def main() -> None:
    config = CONFIG.value
    before_jax.configure(config.compilation_cache, config.deterministic)

    folder = expanded(WORKDIR.value or Path("runs") / CONFIG.name)
    flag_values = (COORDINATOR.value, PROCESSES.value, PROCESS.value)
    several = DISTRIBUTED.value or any(value is not None for value in flag_values)
    processes = Processes(*flag_values, START_TIMEOUT.value) if several else None

    with Stop.on_signals(resumable=True) as stop, initialized(processes, config):
        from diffusion.commands import train

        train.run(config, folder, command_line.report, stop, PROFILE.value, bool(CHANGED.value))


if __name__ == "__main__":
    command_line.run(main)
