"""Denoising diffusion probabilistic models in JAX. The map: a folder imports only from lines above its own.

    core         the mathematics of the papers: schedules, q and its posterior, parameterisations, the bound, objectives
    nets         the U-Net and other Flax modules; cpu/ and gpu_norm.py are written out for CPUs and GPUs
    sampling     one sampler a file; guidance, editing, inpainting, latents
    config       every key of a config, config files, checks, grids of ablations
    runtime      the process: command line, set-up before jax, signals, files, provenance, text of reports
    data         data sets, and which examples make up which batch
    convert      weights of other projects, in and out
    distributed  mesh and sharding rules, several processes as one run
    metrics      numbers from arrays: FID, IS, KID, precision and recall, likelihood, neighbours
    workdir      a run's folder: config.json, checkpoints, results, metrics
    training     Algorithm 1: step, state, optimiser, moving average, loop
    published    the papers' tables, and which of our results fill which cell
    experiment   from a config to values: registry, build, guidance of samples, loading a run
    planning     a training step or sampler compiled for hardware that is not there, and what its program says
    evaluation   a run measured: bound, flow, sample sets, scores, guidance, all of them when training ends, protocol
    figures      of images, points, curves and training; figure_data/ makes what they show, catalogue names them
    benchmarks   speed beside PyTorch
    commands     what each script runs, under the script's name

Importing this module imports nothing else.
"""

__version__ = "0.1.0"
