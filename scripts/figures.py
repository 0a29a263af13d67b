"""Draws the figures of the papers from a run.

    python scripts/figures.py --workdir=runs/digits                            # its loss, as PNG and as PDF
    python scripts/figures.py --workdir=runs/digits --figure=all               # all whose inputs exist
    python scripts/figures.py --workdir=runs/digits --figure=forks,samples --out=paper/figures
    python scripts/figures.py --workdir=runs/digits --figure=progressive --out=progressive.pdf --seed=1
    python scripts/figures.py --workdir=runs/ablations/samplers_digits --figure=steps
    python scripts/figures.py --figure=schedules,posterior_variance            # these need no run

loss                loss and bound during training
curves              losses of all runs in a folder, in the band of a recorded curve (docs/training_curves.md)
samples             samples by the config's sampler                            DDPM figures 1, 11, 13
progressive         x_0_hat along the chain                                    DDPM figures 6, 14
forks               samples that share x_t                                     DDPM figure 7
interpolation       between two held-out images, by x_t                        DDPM figure 8
coarse_to_fine      interpolations of one pair at decreasing t                 DDPM figure 9
inpainting          lower halves of held-out images completed                   RePaint figure 4
variations          held-out images noised up to x_t, denoised from x_t        SDEdit figure 3
neighbours          samples and the nearest training images                    DDPM figures 12, 15
rate_distortion     rate and distortion along the chain; needs evaluated nll   DDPM figure 5
terms               terms of the bound against t; needs evaluated nll          Improved DDPM figure 2
steps               score against sampling steps, of an ablation or of runs    Improved DDPM figure 8
guidance            effect of guidance; needs scripts/guidance_scales.py
marginals           points x_t in the plane, forward and reverse process       DDPM figure 2
trajectories        paths from noise to data, random and deterministic; only points
score_field         the score at several levels of noise; only points          NCSN figure 2
samplers            samplers side by side in few steps; only points
animation           the chain as a GIF; only points
posterior_variance  beta_tilde / beta against t                                Improved DDPM figure 1
schedules           alpha_bar, linear and cosine                               Improved DDPM figure 5
reverse_conditional p(x_{u-du} | x_u) and its Gaussian limit                   Nakkiran et al. 2024, Fact 1
speed_by_chips      steps/s of compiled programs against chips (docs/accelerators.md)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags

from diffusion.runtime import before_jax, command_line, workdir_and_data_flags

WORKDIR = command_line.define_path("workdir", "folder of the run; for `steps` of an ablation, for `curves` of runs")
FIGURE = flags.DEFINE_list("figure", "loss", "names from the list above, separated by commas, or all")
OUT = command_line.define_path(
    "out",
    "folder, or for one figure a file (.png, .pdf, .svg, or .gif); by default the run's figures/, or runs/figures",
)
N = flags.DEFINE_integer("n", None, "samples, chains, images or pairs shown; by default the figure's own number", 1)
SEED = command_line.define_seed("seed of samples, noise and held-out images")
STEP = flags.DEFINE_integer("step", None, "checkpoint, or step of the measured bound; by default the newest")
RAW = flags.DEFINE_bool("raw", False, "use the raw weights instead of their moving average")
DATA = workdir_and_data_flags.define_data_flags()
T = command_line.define_numbers(
    "t", "", "interpolation: steps at which images are mixed, 1..T; by default T / 2, as published"
)
GRID = flags.DEFINE_string("grid", None, "steps of the chain: 50, ddim50, quad50 or full; by default the config's")


def main() -> None:
    before_jax.configure()

    from diffusion.commands import figures
    from diffusion.figures.flags_and_run_for_figures import Inputs

    folder = WORKDIR.value
    inputs = Inputs(folder, N.value, SEED.value, STEP.value, RAW.value, T.value, GRID.value, DATA())
    out = OUT.value or (folder or Path("runs")) / "figures"
    for path in figures.draw(FIGURE.value, inputs, out):
        print(path, flush=True)


if __name__ == "__main__":
    command_line.run(main)
