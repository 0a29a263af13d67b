"""Trains a classifier of noised images, for classifier guidance.

    python scripts/train_classifier.py                                     # handwritten digits, a minute on a CPU
    python scripts/sample.py --workdir=runs/digits --classifier=runs/digits_classifier --guidance=2 --label=3

The config's keys of data, diffusion, net, optim and train are used; those of diffusion, but for parameterization and
variance, must equal those of the model to be guided. Prints the accuracy on held-out images for t in each quarter of
1..T. Repeat the command to resume; on SIGTERM or Ctrl-C the script saves and exits with status 75.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from diffusion.runtime import before_jax, command_line, config_flag, workdir_and_data_flags
from diffusion.runtime.paths import expanded
from diffusion.runtime.signals import Stop

CONFIG = config_flag.define_config("configs/digits.py:classifier")
CHANGED = workdir_and_data_flags.define_data_changed()
WORKDIR = command_line.define_path("workdir", "folder of the run; by default runs/<config name>")


def main() -> None:
    config = CONFIG.value
    before_jax.configure(config.compilation_cache, config.deterministic)
    folder = expanded(WORKDIR.value or Path("runs") / CONFIG.name)

    with Stop.on_signals(resumable=True) as stop:
        from diffusion.commands import train_classifier
        from diffusion.training.classifier import quarters

        shares = train_classifier.run(config, folder, command_line.report, stop, bool(CHANGED.value))
    for (first, last), share in zip(quarters(config.diffusion.T), shares, strict=True):
        print(f"t {first:>4}..{last:<4}  {share:.1%} of held-out images right")


if __name__ == "__main__":
    command_line.run(main)
