"""Every key of a config: its default, its legal values, and one sentence on what it does.

Defaults are those of the paper's CIFAR-10 experiment wherever a key is a hyper-parameter, so that a config file is a
short list of differences from it. `python scripts/train.py --explain` prints this table for any config.
"""

from typing import Any, NamedTuple

from diffusion.config.ranges import Legal, above, even, flag, from_zero, one_of, path, share, text, whole, wholes


class Key(NamedTuple):
    """One row of the table."""

    default: Any
    legal: Legal
    doc: str


PAPERS = (
    *("cifar10", "celebahq256", "lsun_bedroom", "lsun_church", "lsun_cat"),
    *("cifar10_improved", "cifar10_improved_vlb", "imagenet64"),
)
VP_SCHEDULES = ("linear", "quad", "const", "jsd", "warmup10", "warmup50", "cosine", "sigmoid")
VE_SCHEDULES = ("constant", "geometric")
MILLION = 1_000_000
"""What is more than this would fill a machine's memory before anything is said."""
FLOW_SCHEDULES = ("rectified",)

KEYS: dict[str, Key] = {
    "seed": Key(
        0, whole(0, 2**32 - 1), "Everything random follows from it: initial weights, data order, noise, samples."
    ),
    "paper": Key(
        "",
        one_of(*PAPERS, empty=True),
        "The published experiment that the start-up report compares this config with.",
    ),
    "compilation_cache": Key(
        "auto", path(), "Folder in which compiled programs are kept; auto: the user's cache folder, off: nowhere."
    ),
    # ------------------------------------------------------------------------------------------------------------ data
    "data.name": Key(
        "cifar10",
        one_of("digits", "cifar10", "mnist", "folder:", "toy:", "tfds:"),
        "The data set: a name, folder:PATH for a folder of PNG or JPEG files, tfds:NAME for one of TFDS, or points of "
        "the plane: toy:spiral, toy:moons, toy:checkerboard, toy:mixture.",
    ),
    "data.dir": Key("", path(), "Where the data set lies or is put; empty: its usual place."),
    "data.size": Key(
        0, whole(0, 8192), "Images are cropped and resized to this height and width; 0: left as they are."
    ),
    "data.flip": Key(True, flag(), "Mirror half of the training images, drawn anew each time."),
    "data.download": Key(True, flag(), "Fetch the data set if it is not on disk."),
    "data.resident_mb": Key(
        2048, whole(0), "Data sets up to this many megabytes live on the device; others are streamed."
    ),
    "data.threads": Key(8, whole(1, 1024), "Threads that read and decode a streamed data set."),
    # ------------------------------------------------------------------------------------------------------- diffusion
    "diffusion.schedule": Key(
        "linear",
        one_of(*VP_SCHEDULES, *VE_SCHEDULES, *FLOW_SCHEDULES),
        "How noise grows with t; constant and geometric are variance exploding, rectified is the straight flow from "
        "data to noise, the others are variance preserving.",
    ),
    "diffusion.T": Key(1000, whole(1, MILLION), "Number of noise steps; beta_1 and beta_T are not rescaled with it."),
    "diffusion.beta_1": Key(
        1e-4, above(0.0, 1.0), "Variance that the first step adds (variance preserving schedules)."
    ),
    "diffusion.beta_T": Key(0.02, above(0.0, 1.0), "Variance that the last step adds (variance preserving schedules)."),
    "diffusion.sigma_1": Key(0.01, above(0.0), "Noise level after the first step (the geometric schedule)."),
    "diffusion.sigma_T": Key(50.0, above(0.0), "Noise level after the last step (variance exploding schedules)."),
    "diffusion.parameterization": Key(
        "eps", one_of("eps", "x_0", "mu", "v", "velocity"), "What the network predicts; velocity is eps - x_0."
    ),
    "diffusion.variance": Key(
        "fixed_large",
        one_of("fixed_small", "fixed_large", "learned", "learned_range"),
        "Variance of a reverse step: beta_tilde, beta, or read from the network (freely, or between these two).",
    ),
    # ------------------------------------------------------------------------------------------------------- objective
    "objective.name": Key(
        "simple",
        one_of("simple", "vlb", "mu_mse", "hybrid", "p2", "min_snr"),
        "The loss: L_simple, the variational bound, the squared error of mu-tilde, L_simple + vlb_weight L_vlb, or the "
        "squared error with P2 or min-SNR weights.",
    ),
    "objective.vlb_weight": Key(
        0.001, above(0.0), "Weight in the hybrid objective of the bound, in bits/dim; it trains the variance alone."
    ),
    "objective.p2_gamma": Key(1.0, from_zero(), "Power of P2's weight (k + SNR)^-gamma of the squared error of eps."),
    "objective.p2_k": Key(1.0, above(0.0), "The k in P2's weight, which bounds it where little signal is left."),
    "objective.min_snr_gamma": Key(5.0, above(0.0), "Largest weight of the squared error of x_0 with min_snr weights."),
    "objective.timesteps": Key(
        "uniform",
        one_of("uniform", "antithetic", "loss_second_moment"),
        "How t is drawn: independently, in pairs t and T + 1 - t, or in proportion to the root mean square of past "
        "losses.",
    ),
    # ------------------------------------------------------------------------------------------------------------- net
    "net.name": Key("unet", one_of("unet", "mlp"), "The U-Net, or for points a residual network without convolutions."),
    "net.channels": Key(128, even(4, 65_536), "Width of the U-Net at full resolution."),
    "net.multipliers": Key(
        (1, 2, 2, 2), wholes(1, 256, False), "Width of each level over net.channels; a level halves the size."
    ),
    "net.blocks": Key(2, whole(1, 32), "Residual blocks per level on the way down; the way up has one more."),
    "net.attention": Key(
        (16,), wholes(1, 8192, True), "Heights in pixels at which self-attention follows every block."
    ),
    "net.heads": Key(1, whole(1), "Heads of every attention block, which share its channels."),
    "net.dropout": Key(0.1, from_zero(1.0), "Share of activations dropped in each residual block while training."),
    "net.scale_shift": Key(False, flag(), "Time scales and shifts the second norm of a block instead of being added."),
    "net.convention": Key(
        "original",
        one_of("original", "improved"),
        "Epsilon of norms, order of sines and cosines, padding: as in the code of DDPM, or of Improved DDPM.",
    ),
    "net.class_conditional": Key(False, flag(), "Give the network the class label of each image."),
    "net.label_dropout": Key(
        0.0, from_zero(1.0), "Share of labels hidden while training, for guidance; the network learns both models."
    ),
    "net.dtype": Key(
        "float32", one_of("float32", "bfloat16"), "Type of convolutions and matrix products; all else is float32."
    ),
    "net.remat": Key(False, flag(), "Recompute activations in the backward pass: less memory, more time, same result."),
    "net.rescale_time": Key(False, flag(), "Give the network the time scaled to 0..1000 whatever diffusion.T is."),
    # ----------------------------------------------------------------------------------------------------------- optim
    "optim.lr": Key(2e-4, above(0.0), "Learning rate of Adam after the warm-up; it stays constant."),
    "optim.warmup_steps": Key(5000, whole(0), "Steps over which the learning rate rises linearly from 0."),
    "optim.clip": Key(1.0, from_zero(), "Gradients with a larger global norm are scaled down to it; 0: never."),
    "optim.beta_1": Key(0.9, from_zero(1.0), "Adam's decay of the gradient average."),
    "optim.beta_2": Key(0.999, from_zero(1.0), "Adam's decay of the squared-gradient average."),
    "optim.eps": Key(1e-8, above(0.0), "Adam's guard against division by zero."),
    "optim.weight_decay": Key(0.0, from_zero(), "Decoupled weight decay (AdamW), times the learning rate."),
    "optim.skip_spike": Key(
        0.0, from_zero(), "Skip an update whose gradient norm exceeds this many times its running mean; 0: never."
    ),
    "optim.ema_decay": Key(0.9999, from_zero(1.0), "Decay of the average of the weights that samples are drawn from."),
    "optim.ema_warmup": Key(False, flag(), "Start with a smaller decay that rises to ema_decay; for short runs."),
    # ----------------------------------------------------------------------------------------------------------- train
    "train.steps": Key(800_000, whole(1), "Optimiser steps in all; a run started again with more of them goes on."),
    "train.batch_size": Key(128, whole(1, MILLION), "Images per step, over all devices."),
    "train.accumulate": Key(
        1, whole(1), "Parts in which a batch is taken, one after the other: less memory, more time, same result."
    ),
    "train.bad_steps": Key(
        10, whole(1), "Updates skipped in a row, their loss or gradient not being finite, after which a run stops."
    ),
    "train.steps_per_dispatch": Key(
        1, whole(1, 10_000), "Steps that the device takes between two words with the host."
    ),
    "train.log_every": Key(100, whole(1), "Steps between two lines of metrics."),
    "train.sample_every": Key(10_000, whole(0), "Steps between two sample grids; 0: only at the end."),
    "train.eval_every": Key(10_000, whole(0), "Steps between two quick estimates of the bound; 0: only at the end."),
    "train.checkpoint_every": Key(5_000, whole(0), "Steps between two checkpoints; 0: only the first and the last."),
    "train.keep": Key(3, whole(1), "Newest checkpoints kept to go on from."),
    "train.keep_every": Key(0, whole(0), "Steps between two checkpoints that are kept for good; 0: none."),
    "train.keep_best": Key(False, flag(), "Keep the checkpoint with the best estimate of the bound so far."),
    "train.sharding": Key(
        "replicated",
        one_of("replicated", "fsdp"),
        "Each device holds all parameters, or a part of each; the batch is always divided.",
    ),
    # ---------------------------------------------------------------------------------------------------------- sample
    "sample.sampler": Key(
        "ancestral",
        one_of(
            *("ancestral", "ddim", "dpm_solver", "heun"),
            *("reverse_diffusion", "probability_flow", "annealed_langevin", "predictor_corrector"),
        ),
        "The reverse chain: Algorithm 2, DDIM, DPM-Solver++(2M), Heun's method with two network calls a step, score "
        "SDE's reverse diffusion and probability flow, NCSN's Langevin dynamics, or Algorithm 2 with it as corrector.",
    ),
    "sample.grid": Key(
        "",
        text("a grid of steps, such as 50 or 10,15,20"),
        "Steps that samples and the final bound visit: 50, or 10,15,20 by sections, or ddim50 or quad50; empty: all.",
    ),
    "sample.eta": Key(0.0, share(), "Noise of the ddim sampler: 0 is deterministic, 1 is ancestral with fixed_small."),
    "sample.corrector_steps": Key(
        1, whole(1), "Langevin steps at each noise level (annealed_langevin, predictor_corrector)."
    ),
    "sample.corrector_snr": Key(
        0.16, above(0.0, 1.0), "Size of Langevin steps: the ratio of the score's part to the noise's, as in score SDE."
    ),
    "sample.clip": Key(True, flag(), "Clip the predicted x_0 to [-1, 1] at every step, as the published code does."),
    "sample.guidance": Key(
        0.0, from_zero(), "Scale w of guidance: score + w grad log p(label | x_t), by label dropout or a classifier."
    ),
    "sample.guidance_from": Key(
        0.0, share(), "Guidance acts from this share of T on; at smaller t samples follow the model."
    ),
    "sample.guidance_to": Key(
        1.0, share(), "Guidance acts up to this share of T; at larger t samples follow the model."
    ),
    "sample.classifier": Key(
        "", path(), "Folder of a run of scripts/train_classifier.py whose classifier guides samples; empty: none does."
    ),
    "sample.preview_steps": Key(
        50, whole(2), "DDIM steps for the sample grids drawn while training; at most T are used."
    ),
    "sample.n": Key(64, whole(1, MILLION), "Images in a sample grid."),
    "sample.batch_size": Key(64, whole(1, MILLION), "Images drawn at a time; it does not change them."),
    # ------------------------------------------------------------------------------------------------------------ eval
    "eval.n": Key(0, whole(0), "Held-out images for the final bound; 0: all of them."),
    "eval.batch_size": Key(128, whole(1, MILLION), "Images per evaluation batch; it does not change the result."),
    "eval.quick_n": Key(256, whole(1), "Held-out images for the estimate of the bound during training."),
    "eval.quick_steps": Key(50, whole(2), "Time steps per image in that estimate; at most T."),
    "eval.noise_scale": Key(False, flag(), "Measure the gradient noise scale whenever the bound is estimated."),
    "eval.noise_scale_batches": Key(8, whole(2, 10_000), "Training batches whose gradients give the noise scale."),
    "eval.cpu_flop": Key(
        4e12, from_zero(), "Operations that each preview, estimate and final measurement may take on a CPU; 0: any."
    ),
    "eval.final": Key(True, flag(), "Compute the bound over held-out images when training ends."),
}

CHOICES: dict[str, tuple[str, ...]] = {key: row.legal.names for key, row in KEYS.items() if row.legal.names}
"""The names that a key may take; experiment/build.py has a value for each."""

RESUMABLE = frozenset(
    {"paper", "compilation_cache", "data.dir", "data.download", "data.resident_mb", "data.threads", "net.remat"}
    | ({key for key in KEYS if key.startswith(("train.", "sample.", "eval."))} - {"train.batch_size"})
)
"""Keys that a resumed run may change: they say how, how long and with what reports it goes on, not what it computes."""
