r"""Imports weights trained by another project as a run, which sample.py and evaluate.py read like any other.

    python scripts/import_weights.py --from=diffusers --file=ddpm-cifar10-32 --config=configs/cifar10.py
    python scripts/import_weights.py --from=improved_diffusion --file=cifar10_uncond_50M_500K.pt \
        --config=configs/cifar10_improved.py
    python scripts/import_weights.py --from=ddpm_tf --file=model.ckpt-790000 --config=configs/cifar10.py

diffusers: the folder of a pipeline (safetensors, or .bin); improved_diffusion: a .pt file of that code; ddpm_tf: the
prefix of a TensorFlow checkpoint of the DDPM paper's code. Nothing in a file is executed, and none of those libraries
is needed. Every tensor must be used and every parameter filled; else the misfits are listed and nothing is written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.config.key_types import INT32
from diffusion.runtime import before_jax, command_line, config_flag
from diffusion.runtime.paths import expanded

FORMATS = ["diffusers", "improved_diffusion", "ddpm_tf"]
CONFIG = config_flag.define_config("configs/cifar10.py")
FROM = flags.DEFINE_enum("from", None, FORMATS, "project whose format the file has (required)")
FILE = command_line.define_path("file", "file, folder, or prefix of a checkpoint (required)")
WORKDIR = command_line.define_path("workdir", "folder of the new run; by default runs/CONFIG_imported")
STEP = flags.DEFINE_integer(
    "step", None, "number of training steps; by default the one in the file or its name", 0, INT32
)


def main() -> None:
    if not FROM.value or not FILE.value:
        raise ValueError(
            f"--from and --file are required: whose format ({', '.join(FORMATS)}), and where the weights are"
        )
    config = CONFIG.value
    before_jax.configure(config.compilation_cache)

    from diffusion.commands import import_weights

    folder = expanded(WORKDIR.value or f"runs/{CONFIG.name}_imported")
    import_weights.import_run(FILE.value, FROM.value, config, folder, STEP.value, print)


if __name__ == "__main__":
    command_line.run(main)
