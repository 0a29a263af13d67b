"""Draws samples from a run's newest checkpoint.

    python scripts/sample.py --workdir=runs/digits                             # a grid of 64 as PNG
    python scripts/sample.py --workdir=runs/digits --n=1000 --format=npz       # an array, uint8 [n, H, W, C]
    python scripts/sample.py --workdir=runs/digits --steps=50 --sampler=ddim   # a faster chain

Image i depends on the seed and on i alone: asking for more images, or in other batches, does not change the first ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion import cli, runtime

WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run to sample from (required)")
N = flags.DEFINE_integer("n", 64, "number of images", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "seed of the images", lower_bound=0)
FORMAT = flags.DEFINE_enum("format", "grid", ["grid", "png", "npz"], "one picture, one PNG an image, or an array")
OUT = flags.DEFINE_string("out", None, "file (grid, npz) or folder (png); by default in the run's samples folder")
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
SAMPLER = flags.DEFINE_string("sampler", None, "ancestral, ddim, dpm_solver or heun; by default the config's")
GRID = flags.DEFINE_string("grid", None, "steps visited: 50, 10,15,20, ddim50, quad50 or full; by default the config's")
STEPS = flags.DEFINE_integer("steps", None, "--steps=50 is short for --grid=50", lower_bound=1)
ETA = flags.DEFINE_float("eta", None, "noise of ddim, from 0 to 1; by default the config's", 0.0, 1.0)
BATCH = flags.DEFINE_integer("batch_size", 64, "images drawn at a time; does not change them", lower_bound=1)


def main() -> None:
    if not WORKDIR.value:
        raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
    folder = Path(WORKDIR.value)

    from diffusion import workdir

    run = workdir.read_run(folder)
    config = run.config
    runtime.configure(config.compilation_cache)

    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from diffusion import build, experiment, respacing
    from diffusion.evaluation import samples

    name = SAMPLER.value or config.sample.sampler
    if name not in build.SAMPLERS:
        raise ValueError(f"--sampler={name} is not one of {', '.join(build.SAMPLERS)}")
    if STEPS.value and GRID.value is not None:
        raise ValueError(f"--steps={STEPS.value} and --grid={GRID.value} contradict each other; give one of them")
    if ETA.value is not None and name != "ddim":
        raise ValueError(f"--eta has no effect on the sampler {name}; it belongs to --sampler=ddim")
    text = str(STEPS.value) if STEPS.value else config.sample.grid if GRID.value is None else GRID.value
    grid = respacing.parse(text)
    grid(config.diffusion.T)
    ours, params, step = experiment.load(folder, run, STEP.value, RAW.value)
    sampler = ours.sampler(name, grid, ETA.value)
    batch = ours.batch(min(BATCH.value, N.value))
    parts = []
    with tqdm(total=N.value, unit="image", disable=None) as bar:
        draw = lambda keys, labels: sampler(params, keys, labels).x_0  # noqa: E731
        for part in samples.draw(draw, N.value, batch, SEED.value, ours.net.classes):
            parts.append(part)
            bar.update(len(part))
    pixels = np.concatenate(parts)

    eta = ETA.value if ETA.value is not None else config.sample.eta if name == "ddim" else 0.0
    chain = "_".join([name, *([f"eta_{eta:g}"] if eta else []), text or str(config.diffusion.T)])
    stem = f"{chain}_step_{step:07d}_seed_{SEED.value}_n_{N.value}" + ("_raw" if RAW.value else "")
    suffix = {"grid": ".png", "png": "", "npz": ".npz"}[FORMAT.value]
    path = Path(OUT.value) if OUT.value else folder / "samples" / (stem + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    if FORMAT.value == "grid":
        Image.fromarray(experiment.picture(pixels).squeeze()).save(path, format="PNG")
    elif FORMAT.value == "npz":
        with path.open("wb") as file:
            np.savez(file, arr_0=pixels)
    else:
        path.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(pixels):
            Image.fromarray(image.squeeze()).save(path / f"{i:06d}.png")
    print(path)


if __name__ == "__main__":
    cli.run(main)
