"""Compiles a training step or sampler for TPUs and GPUs without the hardware: memory, bottleneck, steps/s.

    python scripts/plan.py --config=configs/cifar10.py --target=tpu:v5e:4x4 --config.net.dtype=bfloat16
    python scripts/plan.py --config=configs/lsun_bedroom.py --target=gpu:h100 --config.net.dtype=bfloat16 --fit
    python scripts/plan.py --config=configs/cifar10.py --target=tpu:v5e,tpu:v6e,gpu:h100 --price=tpu:v5e=1.2,gpu:h100=3
    python scripts/plan.py --config=configs/cifar10.py --target=gpu:h100 --what=sample
    python scripts/plan.py --target=?                                # the hardware, with the figures that are used

The real compilers run on any CPU. Nothing is executed, so times are what published peaks allow. TPUs need libtpu, GPUs
the CUDA plugin (requirements-plan.txt). A compilation takes one to four minutes (docs/accelerators.md). The data set is
not read; for sets that are not built in, config.data.size must give the size of an image.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, config_flag

CONFIG = config_flag.define_config("configs/cifar10.py")
TARGET = flags.DEFINE_list("target", [], "hardware, separated by commas: tpu:v5e:4x4, gpu:h100:8, cpu; ? lists it")
WHAT = flags.DEFINE_enum("what", "train", ["train", "sample"], "the training step, or the sampler's chain")
FIT = flags.DEFINE_bool("fit", False, "also compile each change that reduces memory, and more devices")
CSV = command_line.define_path("csv", "file that receives a line for each program, such as docs/accelerators.csv")
JSON = command_line.define_path("json", "file for all numbers of the report")
PRICE = flags.DEFINE_list("price", [], "prices of a chip-hour, which give the cheapest: tpu:v5e=1.2,gpu:h100=3")
TIMEOUT = flags.DEFINE_float("timeout", 900.0, "seconds that one compilation may take", lower_bound=1.0)
IMAGES = flags.DEFINE_integer("images", None, "number of training images of a set that is not built in", lower_bound=1)


def main() -> None:
    before_jax.configure("off")
    from diffusion.commands import plan
    from diffusion.planning import report

    if TARGET.value == ["?"]:
        print(report.hardware())
        return
    if not TARGET.value:
        raise ValueError("--target is required: hardware such as tpu:v5e:4x4 or gpu:h100; --target=? lists it")
    plan.run(
        CONFIG.value,
        TARGET.value,
        say,
        title=CONFIG.name,
        what=WHAT.value,
        images=IMAGES.value,
        timeout=TIMEOUT.value,
        fit=FIT.value,
        csv=CSV.value,
        json=JSON.value,
        prices=plan.parse_prices(PRICE.value),
    )


def say(line: str) -> None:
    """Prints a line of the report; progress, which starts with a carriage return, to stderr if that is a terminal."""
    progress = line.startswith("\r")
    if sys.stderr.isatty():
        print("\r\x1b[K", end=line if progress else "", file=sys.stderr, flush=True)
    if not progress:
        print(line, flush=True)


if __name__ == "__main__":
    command_line.run(main)
