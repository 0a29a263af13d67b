"""Edits images with the network of a run, without further training.

    python scripts/edit.py --workdir=runs/digits --edit=interpolate --held_out=0,1     # DDPM figure 8
    python scripts/edit.py --workdir=runs/digits --edit=interpolate --held_out=0,1 --t=1000,500,250   # figure 9
    python scripts/edit.py --workdir=runs/digits --edit=inpaint --image=a.png --mask=m.png --n=8 --resamplings=10
    python scripts/edit.py --workdir=runs/digits --edit=vary --held_out=0,1,2 --t=500 --out=varied.png

interpolate   mixes x_t of two images at step t, and denoises the mixtures            DDPM figures 8, 9
latent        the same with the DDIM latents x_T of the two images, without noise      DDIM figure 6
inpaint       completes the part that is white in a mask, consistent with the rest    RePaint, Algorithm 1
vary          adds noise up to step t and denoises: similar images                     SDEdit, Algorithm 1
roundtrip     x_T by DDIM inversion, and the image decoded from it                    DDIM section 5.4

Images must have the size and the colours of the network's images; --fit makes them fit. Several images are separated by
commas. The output is one picture with the original images and the results, and with --separate also a PNG of each
result. Draw j of an image depends only on j, the seed, the image and its position in the list.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, workdir_and_data_flags
from diffusion.runtime.paths import expanded

RUN = workdir_and_data_flags.define_run("folder of the run whose network is used")
EDIT = flags.DEFINE_enum(
    "edit",
    None,
    ["interpolate", "latent", "inpaint", "vary", "roundtrip"],
    "kind of edit, from the list above (required)",
)
IMAGE = flags.DEFINE_list("image", [], "image files")
OTHER = flags.DEFINE_list("other", [], "interpolate, latent: the other image of each --image")
HELD_OUT = command_line.define_numbers(
    "held_out", "", "numbers of held-out images, instead of files; two for each pair"
)
FIT = flags.DEFINE_bool("fit", False, "crop, resize and grey image files as the network needs it")
LABEL = flags.DEFINE_string(
    "label", None, "class of image files, a name or a number, for class-conditional and guided runs"
)
MASK = flags.DEFINE_string(
    "mask", None, "inpaint: a picture that is white where to inpaint; or left, right, top, bottom or middle"
)
T = command_line.define_numbers("t", "", "interpolate, vary: steps to which noise is added, 1..T; by default T / 2")
N = flags.DEFINE_integer(
    "n", None, "draws of each image, by default 8; or mixtures of two, by default 11", lower_bound=1
)
RESAMPLINGS = flags.DEFINE_integer("resamplings", 10, "inpaint: number of times that each step is taken", lower_bound=1)
JUMP = flags.DEFINE_integer("jump", 1, "inpaint: steps that each resampling goes back; 10 in the paper", lower_bound=1)
SEED = command_line.define_seed("seed of the noise")
STEP = flags.DEFINE_integer("step", None, "checkpoint to use; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
GRID = flags.DEFINE_string("grid", None, "steps of the chain: 50, ddim50, quad50 or full; by default the config's")
DATA = workdir_and_data_flags.define_data_flags()
OUT = command_line.define_path("out", "picture to write (.png, .pdf, .svg); by default edits/EDIT.png of the run")
SEPARATE = command_line.define_path("separate", "folder to which each result is written as a PNG of its own")


def main() -> None:
    folder = RUN()
    before_jax.configure()

    from diffusion.commands import edit
    from diffusion.figures.flags_and_run_for_figures import Inputs

    options = edit.Options(
        image=[str(expanded(path)) for path in IMAGE.value],
        other=[str(expanded(path)) for path in OTHER.value],
        held_out=HELD_OUT.value,
        fit=FIT.value,
        label=LABEL.value,
        mask=str(expanded(MASK.value)) if MASK.value else None,
        resamplings=RESAMPLINGS.value,
        jump=JUMP.value,
    )
    inputs = Inputs(folder, N.value, SEED.value, STEP.value, RAW.value, T.value, GRID.value, DATA())
    print(edit.run(EDIT.value, inputs, options, OUT.value, SEPARATE.value))


if __name__ == "__main__":
    command_line.run(main)
