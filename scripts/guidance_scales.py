"""Measures the effect of guidance on a run's samples at several scales.

    python scripts/guidance_scales.py --workdir=runs/digits_conditional --classifier=runs/digits_classifier
    python scripts/guidance_scales.py --workdir=runs/digits --classifier=runs/digits_classifier --scales=0,1,2,4
    python scripts/figures.py --workdir=runs/digits_conditional --figure=guidance

The table has a row for each kind of guidance that the run allows and each scale. Accuracy: the share of samples that a
classifier of clean images assigns to the requested class. Diversity: the mean distance between two samples of a class
in that classifier's features, divided by that of real images. Distance: the Fréchet distance from the training images.
Sample i starts from the same noise in all rows. The results are written to eval/guidance_<step>_n<samples>.json of the
run; the name also holds the sampler, grid, seed and weights where they are not the config's, and the classifier. Other
--scales replace the file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, workdir_and_data_flags

WORKDIR = command_line.define_path("workdir", "folder of the run to sample from (required)")
CLASSIFIER = command_line.define_path(
    "classifier", "run of scripts/train_classifier.py; else only label dropout guides"
)
SCALES = command_line.define_numbers(
    "scales", "0,0.5,1,2,4,8", "scales of guidance, separated by commas; 0 is no guidance", float
)
N = flags.DEFINE_integer("n", 500, "samples of each row", lower_bound=2)
SAMPLER = flags.DEFINE_string("sampler", None, "ancestral, ddim (without noise), heun, ...; by default the config's")
GRID = flags.DEFINE_string("grid", None, "steps of the chain, such as 50; by default the config's")
SEED = command_line.define_seed("seed of the images")
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
DATA = workdir_and_data_flags.define_data_flags()
BATCH = flags.DEFINE_integer("batch_size", 100, "images drawn at a time; does not change them", lower_bound=1)


def main() -> None:
    folder, wanted = command_line.required(WORKDIR.value), scales()

    from diffusion.workdir.run_config import read_run

    run = read_run(folder)
    before_jax.configure()

    from diffusion.commands.guidance_scales import measure

    path = measure(
        folder,
        run,
        report,
        scales=wanted,
        classifier=CLASSIFIER.value,
        n=N.value,
        batch=BATCH.value,
        seed=SEED.value,
        sampler=SAMPLER.value,
        grid=GRID.value,
        step=STEP.value,
        raw=RAW.value,
        data_flags=DATA(),
    )
    print(path)


def scales() -> list[float]:
    """--scales. Raises ValueError for what is no scale."""
    if not SCALES.value or not all(0 <= scale < float("inf") for scale in SCALES.value):
        raise ValueError("--scales: give numbers of at least 0, such as 0,1,2,4")
    return SCALES.value


def report(line: str) -> None:
    """Prints a row of the table as soon as it is measured."""
    print(line, flush=True)


if __name__ == "__main__":
    command_line.run(main)
