"""Every key of a config: its default, its legal values, what it does, what it affects, and which choices read it.

Defaults suit a small experiment: the plain method with a network for small images and a short run. Published
experiments state their values in configs/. `python scripts/train.py --explain` prints this table for any config.
"""

from diffusion.config.key_types import (
    BELOW_1,
    BETWEEN_0_AND_1,
    FLAG,
    FROM_ZERO,
    POSITIVE,
    REAL,
    SHARE,
    Key,
    Role,
    one_of,
    text,
    whole,
    wholes,
)

PAPERS = (
    *("cifar10", "celebahq256", "lsun_bedroom", "lsun_church", "lsun_cat"),
    *("cifar10_improved", "cifar10_improved_vlb", "imagenet64", "celeba64"),
)
RAMPED_SCHEDULES = ("linear", "quad", "warmup10", "warmup50", "sigmoid")
VP_SCHEDULES = (*RAMPED_SCHEDULES, "const", "jsd", "cosine")
VE_SCHEDULES = ("ve_constant", "ve_geometric", "ve_karras")
MILLION = 1_000_000
"""Upper limit; larger values exhaust memory before any check can run."""

COLOUR = ("a colour: white, black, grey, or #RRGGBB such as #8080ff", "white|black|grey|#[0-9a-fA-F]{6}")

RAMPED = ("diffusion.schedule", RAMPED_SCHEDULES)
SCALED = ("diffusion.schedule", (*RAMPED_SCHEDULES, "const"))
FROM_SIGMA_1 = ("diffusion.schedule", ("ve_geometric", "ve_karras"))
KARRAS = ("diffusion.schedule", ("ve_karras",))
LOGNORMAL = ("objective.timesteps", ("lognormal",))
EDM_SAMPLER, CHURNED = ("sample.sampler", ("edm",)), ("sample.churn", ())
GUIDED, LABELLED = ("sample.guidance", ()), ("net.class_conditional", ())
EXPLODING = ("diffusion.schedule", VE_SCHEDULES)
HYBRID = ("objective.name", ("hybrid",))
P2 = ("objective.name", ("p2",))
MIN_SNR = ("objective.name", ("min_snr",))
DDIM = ("sample.sampler", ("ddim",))
LANGEVIN = ("sample.sampler", ("annealed_langevin", "predictor_corrector"))
UNET = ("net.name", ("unet",))
STEPS, HALF = ("net.time", ("steps",)), ("net.dtype", ("bfloat16",))
FLOATS = ("float32", "bfloat16")
TRAINING, RESULT, CONDUCT, MACHINE = Role

KEYS: dict[str, Key] = {
    "seed": Key(0, whole(0, 2**32 - 1), "Seed of initial weights, order of the data, noise and samples."),
    "paper": Key("", one_of(*PAPERS, empty=True), "Published experiment that the config is compared with.", CONDUCT),
    "compilation_cache": Key(
        "auto",
        text("a path"),
        "Folder of compiled programs; auto: the user's cache, off: none. JAX_COMPILATION_CACHE_DIR overrides it.",
        MACHINE,
    ),
    "deterministic": Key(False, FLAG, "Deterministic kernels and no autotuning on NVIDIA GPUs.", MACHINE),
    # ------------------------------------------------------------------------------------------------------------ data
    "data.name": Key(
        "digits",
        one_of("digits", "cifar10", "mnist", "folder:", "toy:", "tfds:"),
        "The data set: a name, folder:PATH for a folder of images (docs/data.md), tfds:NAME for one of TFDS, or points "
        "of the plane: toy:spiral, toy:moons, toy:checkerboard, toy:mixture.",
    ),
    "data.dir": Key("", text("a path"), "Folder of the data set; empty: its usual place.", CONDUCT),
    "data.crop": Key(0, whole(0, 8192), "Side of the central square that images are resized from; 0: the largest."),
    "data.size": Key(0, whole(0, 8192), "Height and width that images are resized to; 0: unchanged."),
    "data.channels": Key(0, whole(0, 3), "Channels of a folder's images: 1 grey, 3 colour; 0: as the files."),
    "data.background": Key("white", text(*COLOUR), "Colour behind transparent pixels of folders and TFDS."),
    "data.flip": Key(False, FLAG, "Mirror each training image with probability 1/2, resampled whenever it is used."),
    "data.augment": Key(0.0, SHARE, "Probability of each geometric transform of an image; an input of the network."),
    "data.download": Key(True, FLAG, "Fetch CIFAR-10 if it is not on disk.", CONDUCT),
    "data.resident_mb": Key(2048, whole(0), "Size above which data are streamed, not held on the device.", CONDUCT),
    "data.threads": Key(8, whole(1, 1024), "Threads that read and decode a streamed data set.", MACHINE),
    # ------------------------------------------------------------------------------------------------------- diffusion
    "diffusion.schedule": Key(
        "linear",
        one_of(*VP_SCHEDULES, *VE_SCHEDULES, "rectified"),
        "How noise grows with t; ve_constant, ve_geometric and ve_karras are variance exploding, rectified is the "
        "straight flow from data to noise, the others are variance preserving.",
    ),
    "diffusion.T": Key(1000, whole(1, MILLION), "Number of noise steps; beta_1 and beta_T are not rescaled with it."),
    "diffusion.beta_1": Key(1e-4, BETWEEN_0_AND_1, "Variance that the first step adds.", read_by=RAMPED),
    "diffusion.beta_T": Key(0.02, BETWEEN_0_AND_1, "Variance that the last step adds.", read_by=SCALED),
    "diffusion.sigma_1": Key(0.01, POSITIVE, "Noise level after the first step.", read_by=FROM_SIGMA_1),
    "diffusion.sigma_T": Key(50.0, POSITIVE, "Noise level after the last step.", read_by=EXPLODING),
    "diffusion.rho": Key(7.0, POSITIVE, "Levels are evenly spaced in sigma^(1/rho).", read_by=KARRAS),
    "diffusion.sigma_data": Key(1.0, POSITIVE, "Standard deviation of the data, for the input's scale and edm."),
    "diffusion.parameterization": Key(
        "eps",
        one_of("eps", "x_0", "mu", "v", "velocity", "edm"),
        "What the network predicts; velocity: eps - x_0; edm: the part of x_0 that x_t lacks, at unit variance.",
    ),
    "diffusion.variance": Key(
        "fixed_large",
        one_of("fixed_small", "fixed_large", "learned", "learned_range"),
        "Variance of a reverse step: beta_tilde, beta, or read from the network (freely, or between these two).",
    ),
    # ------------------------------------------------------------------------------------------------------- objective
    "objective.name": Key(
        "simple",
        one_of("simple", "vlb", "mu_mse", "hybrid", "p2", "min_snr", "edm"),
        "The loss: L_simple, the variational bound, the squared error of mu-tilde, L_simple + vlb_weight L_vlb, or the "
        "squared error with the weights of P2, min-SNR or EDM.",
    ),
    "objective.vlb_weight": Key(
        0.001, POSITIVE, "Weight of the bound, in bits/dim; it trains only the variance.", read_by=HYBRID
    ),
    "objective.p2_gamma": Key(1.0, FROM_ZERO, "Power of P2's weight (k + SNR)^-gamma on the error of eps.", read_by=P2),
    "objective.p2_k": Key(1.0, POSITIVE, "The k in P2's weight: limits it where no signal is left.", read_by=P2),
    "objective.min_snr_gamma": Key(5.0, POSITIVE, "Largest weight of the error of x_0.", read_by=MIN_SNR),
    "objective.timesteps": Key(
        "uniform",
        one_of("uniform", "antithetic", "loss_second_moment", "lognormal"),
        "How t is drawn: independently, in pairs t and T + 1 - t, in proportion to the root mean square of past "
        "losses, or by a log-normal density of noise / signal (of a flow: logit-normal).",
    ),
    "objective.P_mean": Key(-1.2, REAL, "Mean of log(noise / signal).", read_by=LOGNORMAL),
    "objective.P_std": Key(1.2, POSITIVE, "Standard deviation of log(noise / signal).", read_by=LOGNORMAL),
    # ------------------------------------------------------------------------------------------------------------- net
    "net.name": Key("unet", one_of("unet", "mlp"), "The U-Net, or for points a residual network without convolutions."),
    "net.channels": Key(32, whole(4, 65_536, even=True), "Width at full resolution, or of the network for points."),
    "net.multipliers": Key((1, 2), wholes(256, False), "Width of each level over net.channels.", read_by=UNET),
    "net.blocks": Key(1, whole(1, 32), "Residual blocks per level on the way down; the way up has one more."),
    "net.block_size": Key(1, whole(1, 64), "Squares of this side become one pixel's channels.", read_by=UNET),
    "net.attention": Key((), wholes(8192, True), "Heights with self-attention after every block.", read_by=UNET),
    "net.heads": Key(1, whole(1), "Heads of every attention block, which share its channels.", read_by=UNET),
    "net.dropout": Key(0.0, BELOW_1, "Share of activations dropped in each residual block while training."),
    "net.scale_shift": Key(False, FLAG, "The time embedding scales and shifts second norms.", read_by=UNET),
    "net.convention": Key(
        "original",
        one_of("original", "improved"),
        "Norms, embedding, padding: DDPM's or Improved DDPM's.",
        read_by=UNET,
    ),
    "net.class_conditional": Key(False, FLAG, "Give the network the class label of each image."),
    "net.label_dropout": Key(0.0, BELOW_1, "Share of labels hidden in training, for guidance.", read_by=LABELLED),
    "net.dtype": Key("float32", one_of(*FLOATS), "Type of convolutions and matrix products.", read_by=UNET),
    "net.gradient_dtype": Key("float32", one_of(*FLOATS), "Type of gradient sums under bfloat16.", read_by=HALF),
    "net.remat": Key(False, FLAG, "Recompute activations: less memory, more time.", CONDUCT, UNET),
    "net.cpu_layers": Key(True, FLAG, "On CPUs, use faster layers that are equal up to rounding.", CONDUCT),
    "net.time": Key("steps", one_of("steps", "log_noise"), "The network's time: t - 1, or log(noise / signal) / 4."),
    "net.rescale_time": Key(False, FLAG, "Scale the time to 0..1000 whatever diffusion.T is.", read_by=STEPS),
    # ----------------------------------------------------------------------------------------------------------- optim
    "optim.lr": Key(1e-3, POSITIVE, "Learning rate of Adam after the warm-up; it stays constant."),
    "optim.warmup_steps": Key(100, whole(0), "Steps over which the learning rate rises linearly from 0."),
    "optim.clip": Key(1.0, FROM_ZERO, "Gradients with a larger global norm are scaled down to it; 0: never."),
    "optim.beta_1": Key(0.9, BELOW_1, "Adam's decay of the gradient average."),
    "optim.beta_2": Key(0.999, BELOW_1, "Adam's decay of the squared-gradient average."),
    "optim.eps": Key(1e-8, POSITIVE, "Adam's guard against division by zero."),
    "optim.weight_decay": Key(0.0, FROM_ZERO, "Decoupled weight decay (AdamW), times the learning rate."),
    "optim.skip_spike": Key(0.0, FROM_ZERO, "Skip updates whose gradient norm exceeds its mean times this; 0: none."),
    "optim.ema_decay": Key(0.99, BELOW_1, "Decay of the average of the weights that samples are drawn from."),
    "optim.ema_warmup": Key(False, FLAG, "Start with a smaller decay that rises to ema_decay; for short runs."),
    "optim.power_ema": Key(False, FLAG, "Also keep power-function averages, for scripts/ema.py."),
    # ----------------------------------------------------------------------------------------------------------- train
    "train.steps": Key(1000, whole(1), "Optimiser steps in all; raising it continues a finished run.", RESULT),
    "train.batch_size": Key(128, whole(1, MILLION), "Images per step, over all devices."),
    "train.accumulate": Key(1, whole(1), "Parts in which a batch is processed in turn, to save memory.", CONDUCT),
    "train.bad_steps": Key(10, whole(1), "Updates in a row without finite gradient that end a run.", CONDUCT),
    "train.steps_per_dispatch": Key(1, whole(1, 10_000), "Training steps per compiled call.", CONDUCT),
    "train.log_every": Key(100, whole(1), "Steps between two lines of metrics.", CONDUCT),
    "train.sample_every": Key(1000, whole(0), "Steps between two sample grids; 0: only at the end.", CONDUCT),
    "train.eval_every": Key(1000, whole(0), "Steps between two estimates of the bound; 0: only at the end.", CONDUCT),
    "train.checkpoint_every": Key(1000, whole(0), "Steps between two checkpoints; 0: first and last.", CONDUCT),
    "train.keep": Key(3, whole(1), "Number of newest checkpoints that are kept for resuming.", CONDUCT),
    "train.keep_every": Key(0, whole(0), "Steps between two permanent checkpoints; 0: none.", CONDUCT),
    "train.keep_best": Key(False, FLAG, "Keep the checkpoint with the best estimate of the bound.", CONDUCT),
    "train.sharding": Key(
        "replicated", one_of("replicated", "fsdp", "zero1"), "State that is divided over devices.", CONDUCT
    ),
    # ---------------------------------------------------------------------------------------------------------- sample
    "sample.sampler": Key(
        "ancestral",
        one_of(
            *("ancestral", "ddim", "dpm_solver", "heun", "edm"),
            *("reverse_diffusion", "probability_flow", "annealed_langevin", "predictor_corrector"),
        ),
        "The reverse chain: Algorithm 2, DDIM, DPM-Solver++(2M), Heun's method, EDM's with churn, score SDE's reverse "
        "diffusion and probability flow, NCSN's Langevin dynamics, or Algorithm 2 with it as corrector.",
        RESULT,
    ),
    "sample.grid": Key(
        "",
        text("a grid of steps, such as 50 or 10,15,20"),
        "Steps of samples and the final bound: 50, 10,15,20 by sections, ddim50, quad50 or karras18; empty: all.",
        RESULT,
    ),
    "sample.eta": Key(0.0, SHARE, "Noise of DDIM: 0 deterministic, 1 as ancestral with fixed_small.", RESULT, DDIM),
    "sample.churn": Key(0.0, FROM_ZERO, "S_churn: noise added before a step; 0: none.", RESULT, EDM_SAMPLER),
    "sample.churn_from": Key(0.0, FROM_ZERO, "S_min: lowest noise / signal that is churned.", RESULT, CHURNED),
    "sample.churn_to": Key(1e9, FROM_ZERO, "S_max: highest noise / signal that is churned.", RESULT, CHURNED),
    "sample.churn_noise": Key(1.0, POSITIVE, "S_noise: standard deviation of that noise.", RESULT, CHURNED),
    "sample.corrector_steps": Key(1, whole(1), "Langevin steps at each noise level.", RESULT, LANGEVIN),
    "sample.corrector_snr": Key(0.16, BETWEEN_0_AND_1, "Ratio of score to noise in Langevin steps.", RESULT, LANGEVIN),
    "sample.clip": Key(True, FLAG, "Clip the predicted x_0 to [-1, 1] at every step.", RESULT),
    "sample.guidance": Key(0.0, FROM_ZERO, "Scale w of guidance: score + w grad log p(label | x_t).", RESULT),
    "sample.guidance_from": Key(0.0, SHARE, "Share of T below which there is no guidance.", RESULT, GUIDED),
    "sample.guidance_to": Key(1.0, SHARE, "Share of T above which there is no guidance.", RESULT, GUIDED),
    "sample.classifier": Key("", text("a path"), "Run of a classifier that guides; empty: none.", RESULT, GUIDED),
    "sample.preview_steps": Key(50, whole(2), "DDIM steps of previews during training; at most T.", CONDUCT),
    "sample.n": Key(64, whole(1, MILLION), "Images in a sample grid.", RESULT),
    "sample.batch_size": Key(64, whole(1, MILLION), "Images drawn at a time; it does not change them.", CONDUCT),
    # ------------------------------------------------------------------------------------------------------------ eval
    "eval.n": Key(0, whole(0), "Held-out images for the final bound; 0: all of them.", RESULT),
    "eval.batch_size": Key(128, whole(1, MILLION), "Images per evaluation batch.", CONDUCT),
    "eval.quick_n": Key(256, whole(1), "Held-out images for the estimate of the bound during training.", CONDUCT),
    "eval.quick_steps": Key(50, whole(2), "Time steps per image in that estimate; at most T.", CONDUCT),
    "eval.noise_scale": Key(False, FLAG, "Measure the gradient noise scale with each estimate.", CONDUCT),
    "eval.noise_scale_batches": Key(8, whole(2, 10_000), "Training batches that give the noise scale.", CONDUCT),
    "eval.cpu_flop": Key(4e12, FROM_ZERO, "Limit of FLOP per measurement on a CPU; 0: none.", RESULT),
    "eval.final": Key(True, FLAG, "Compute the bound over held-out images when training ends.", RESULT),
}

CHOICES: dict[str, tuple[str, ...]] = {key: row.legal.names for key, row in KEYS.items() if row.legal.names}
"""The names that a key may take; experiment/registry_of_samplers_and_schedules.py has a value for each."""


def keys_of(*roles: Role) -> frozenset[str]:
    """The keys with one of these roles."""
    return frozenset(key for key, row in KEYS.items() if row.role in roles)


EDM = ("diffusion.rho", "diffusion.sigma_data", "objective.P_mean", "objective.P_std", "net.time")
IMAGES = ("data.crop", "data.channels", "data.background", "data.augment")
ADDED = frozenset({"optim.power_ema", "net.gradient_dtype", "net.block_size", *EDM, *IMAGES})
"""Keys that older run folders lack; at their default they do not count in the hash of a config."""
RESUMABLE = keys_of(RESULT, CONDUCT, MACHINE)
"""Keys that a resumed run may change."""
NO_RESULT = keys_of(CONDUCT, MACHINE)
"""Keys that change no result: a finished result stays valid when they change."""
