"""Writes a run's averaged weights as a folder for the diffusers library, or as pretrained weights of this project.

    python scripts/export_weights.py --workdir=runs/cifar10 --to=diffusers --out=cifar10-ddpm
    python scripts/export_weights.py --workdir=runs/mnist --to=pretrained --out=mnist --seeds=runs/mnist_1,runs/mnist_2

The diffusers folder holds a UNet2DModel as safetensors and a DDPMScheduler with the run's schedule, variance and
parameterisation; DDPMPipeline.from_pretrained reads it. A run that diffusers cannot express is refused with one line.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line
from diffusion.runtime.paths import expanded

WORKDIR = command_line.define_path("workdir", "folder of the run (required)")
TO = flags.DEFINE_enum(
    "to",
    "diffusers",
    ["diffusers", "pretrained"],
    "diffusers: a folder for that library; pretrained: a folder for --pretrained of this project",
)
OUT = command_line.define_path("out", "folder to write; it must not exist, or for diffusers be empty (required)")
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
SEEDS = flags.DEFINE_list(
    "seeds",
    [],
    "pretrained: folders of the same run with other seeds, separated by commas, for the band of its loss curve",
)
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")


def main() -> None:
    if not WORKDIR.value or not OUT.value:
        raise ValueError("--workdir and --out are required: the folder of a run, and the folder to write")
    before_jax.configure()

    from diffusion.commands import export_weights, pretrained_weights_as_run

    arguments = (WORKDIR.value, OUT.value, STEP.value, RAW.value, print)
    if TO.value == "pretrained":
        pretrained_weights_as_run.pack(*arguments, [expanded(folder) for folder in SEEDS.value])
    elif SEEDS.value:
        raise ValueError("--seeds is for --to=pretrained; leave it out")
    else:
        export_weights.export_run(*arguments)


if __name__ == "__main__":
    command_line.run(main)
