"""Denoising diffusion probabilistic models in JAX. A map of the package, from the maths at the bottom upwards:

    types             array aliases, the glossary of symbols
    gaussian          diagonal Gaussians: kl, log_prob, discretised log-likelihood
    schedules         alpha_bar[0..T] or sigma[0..T], float64
    process           q(x_t | x_0), q(x_t | x_{t-1}), q(x_{t-1} | x_t, x_0) as tables over t
    parameterization  what the network predicts: eps, x_0, mu, v
    variance          log-variance of p(x_{t-1} | x_t): fixed or learned
    timesteps         how training draws t
    denoiser          network output -> Prediction(x_0, eps); clipping; the reverse step
    weighting         weights of the squared error, in x_0 space
    elbo              L_T, L_{t-1}, L_0, the whole bound
    objective         weighted squared error + the bound
    sampling/         the reverse chain, one sampler a file
    nets/             the U-Net; the Inception network of the FID
    data/             data sets and batches
    training/         state, step, sharding, checkpoints, the loop
    convert/          weights of other projects, in and out
    evaluation/       the bound over a data set, sample sets, scores
    figures/          one figure of the papers a file
    respacing         grids of steps by their text: "50", "10,15,20", "ddim50", "quad50"
    keys, config      every key with its default; configs made, compared, saved
    runtime           XLA's flags and its cache of programs; allocator: memory that the process keeps
    tables            the value that each name stands for: a choice is a row there
    build             from a config to an experiment
    experiment        a run from start-up to closing report; findings: what is measured on a network
    results, protocol result files, and what a number must be quoted with
    bounding, drawing, scoring: the bound of a run, its sample sets, their scores; evaluating: all of it for evaluate.py
    gallery, recorded what figures show: drawn by a run's network, read from its files; plates: figures by name
    published/        the papers' tables, and which of our results belong to which cell
    porting           runs made of foreign weights, and the other way round
    distributed/      several hosts: meeting, checking, noticing who is gone
    ablation, sweep   grids of experiments; running them, and their tables

Importing this module imports nothing else.
"""

__version__ = "0.1.0"
