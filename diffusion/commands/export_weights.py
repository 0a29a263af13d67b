"""A run's weights written as a folder of the diffusers library."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diffusion.commands.import_weights import beta, require_unet, shapes
from diffusion.config.config_dict import flatten
from diffusion.convert import diffusers, name_mapping
from diffusion.convert.diffusers import Configs
from diffusion.convert.name_mapping import Shapes
from diffusion.experiment import load_run
from diffusion.experiment.registry_of_samplers_and_schedules import VP_SCHEDULES
from diffusion.runtime import format_numbers
from diffusion.workdir.run_config import read_run


def contents(config: ConfigDict, shapes: Shapes, shape: tuple[int, int, int]) -> Configs:
    """The JSON files of the pipeline of a run; `shapes` are those of its parameters, `shape` that of its images.

    Raises ValueError where diffusers cannot express the run.
    """
    schedule = config.diffusion.schedule
    if schedule not in VP_SCHEDULES:
        raise ValueError(
            f"config.diffusion.schedule: {schedule!r} is not variance preserving, as a DDPMScheduler is: it cannot be "
            "exported"
        )
    return diffusers.configs(flatten(config), shapes, shape, beta(config))


def export_run(folder: Path, out: Path, step: int | None, raw: bool, report: Callable[[str], None]):
    """Writes a run's weights, averaged or raw, as a diffusers pipeline.

    Raises ValueError where diffusers cannot express the run, and where `out` is not empty; nothing is written then.
    """
    run = read_run(folder)
    require_unet(run.config)
    described = contents(run.config, shapes(run), run.shape)
    loaded, params, chosen = load_run.load(folder, run, step, raw)
    diffusers.write(out, {name: np.asarray(leaf) for name, leaf in name_mapping.flatten(params).items()}, described)
    report(
        f"weights     {'raw' if raw else 'averaged'} weights of step {chosen}, "
        f"{format_numbers.count(params):,} parameters"
    )
    report(f'use         DDPMPipeline.from_pretrained("{out}")(num_inference_steps={run.config.diffusion.T})')
    if loaded.net.classes:
        report("note        DDPMPipeline passes no labels: call pipeline.unet(x, t, class_labels=...) yourself")
    report(f"folder      {out}")
