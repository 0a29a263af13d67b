"""Draws samples from a run.

    python scripts/sample.py --pretrained=digits                               # weights of the repository, no training
    python scripts/sample.py --workdir=runs/digits                             # one PNG with a grid of 64
    python scripts/sample.py --workdir=runs/cifar10 --n=50000 --format=npz     # arr_0, uint8 [n, H, W, C]
    python scripts/sample.py --workdir=runs/digits --steps=50 --sampler=ddim   # a faster chain
    python scripts/sample.py --workdir=runs/digits_conditional --label=3 --guidance=1
    python scripts/sample.py --workdir=runs/digits --classifier=runs/digits_classifier --guidance=2

Image i depends only on the seed and on i: more images, or another batch size, do not change the first ones. Images are
stored in the run's samples/parts while they are drawn: an interrupted set resumes, and a complete one is not drawn
again. Class-conditional and classifier-guided runs draw image i with label i mod classes; with --label=3,5 the labels
are 3 and 5 in turn. Guidance needs a run trained with config.net.label_dropout or a
classifier of scripts/train_classifier.py (docs/guidance.md).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, sampling_flags, workdir_and_data_flags

RUN = workdir_and_data_flags.define_run("folder of the run to sample from")
N = flags.DEFINE_integer("n", 64, "number of images", lower_bound=1)
SEED = command_line.define_seed("seed of the images")
FORMAT = flags.DEFINE_enum(
    "format",
    "grid",
    ["grid", "png", "npz"],
    "one picture, one PNG an image, or the archive that guided-diffusion's evaluator reads (arr_0; arr_1: labels)",
)
OUT = command_line.define_path("out", "file (grid, npz) or folder (png); by default in the run's samples folder")
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
CHAIN = sampling_flags.define_sampler()
LABEL = flags.DEFINE_list("label", [], "classes of the images, in turn, by name or number: cat or 3,5; by default all")
GUIDANCE = sampling_flags.define_guidance()
BATCH = flags.DEFINE_integer("batch_size", 64, "images drawn at a time; does not change them", lower_bound=1)


def main() -> None:
    folder = RUN()

    from diffusion.workdir.run_config import read_run

    run = read_run(folder)
    before_jax.configure()

    from diffusion.commands.sample import sample
    from diffusion.evaluation.measurement_protocol import Chain

    path = sample(
        folder,
        run,
        Chain(**CHAIN(), seed=SEED.value, labels=labels(run.class_names)),
        command_line.report,
        n=N.value,
        batch=BATCH.value,
        form=FORMAT.value,
        out=OUT.value,
        step=STEP.value,
        raw=RAW.value,
        guidance=GUIDANCE(),
    )
    print(path)


def labels(names: Sequence[str]) -> tuple[int, ...]:
    """--label, by the names of the classes or their numbers. Raises ValueError for what is no class."""
    from diffusion.data.dataset_identity import label_number

    return tuple(label_number(text, names) for text in LABEL.value)


if __name__ == "__main__":
    command_line.run(main)
