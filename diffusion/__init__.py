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
    nets/             the U-Net
    data/             data sets and batches
    training/         state, step, sharding, checkpoints, the loop
    evaluation/       the bound over a data set, scores
    config, build     every key with its default; the only place where a name becomes a value
    experiment        a run from start-up to closing report; findings: what is measured on a network
    ablation, sweep   grids of experiments; running them, and their tables

Importing this module imports nothing else.
"""

__version__ = "0.1.0"
