"""Runs made of the weights of other projects, and the check that a config and a file of weights go together."""

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten
from diffusion.convert import ddpm_tf, diffusers, improved_diffusion, name_mapping
from diffusion.convert.contents_of_weight_file import ForeignWeights
from diffusion.convert.name_mapping import Shapes
from diffusion.experiment import build
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry_of_samplers_and_schedules import VP_SCHEDULES
from diffusion.runtime import format_numbers
from diffusion.runtime.atomic_files import write_json
from diffusion.training.state import Params, TrainState
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.check_same_data import absolute
from diffusion.workdir.checkpoint import Checkpoints
from diffusion.workdir.run_config import Run, lock, write_config

READERS: dict[str, Callable[[Path], ForeignWeights]] = {
    "diffusers": diffusers.read,
    "improved_diffusion": improved_diffusion.read,
    "ddpm_tf": ddpm_tf.read,
}

SETS = {
    "digits": ((8, 8, 1), 1500, 10),
    "mnist": ((28, 28, 1), 60_000, 10),
    "cifar10": ((32, 32, 3), 50_000, 10),
}
"""data.name -> height, width and channels, training images, classes, of the sets that have but one shape."""

UNORDERED = frozenset({"net.attention"})


def require_unet(config: ConfigDict) -> None:
    """Raises ValueError for another network than the U-Net, the only one in files of other projects."""
    if config.net.name != "unet":
        raise ValueError(f"config.net.name: {config.net.name!r} has no form in other projects; only 'unet' has")


def data(config: ConfigDict, weights: ForeignWeights) -> Run:
    """The run that the weights would make: its images have the shape of the config's data set, else of the file.

    Raises ValueError where neither gives it, or they contradict each other.
    """
    fixed = SETS.get(config.data.name)
    size = fixed[0][:2] if fixed else (config.data.size,) * 2 if config.data.size else weights.size
    if not size:
        raise ValueError(
            f"neither the file nor {config.data.name!r} gives the size of the images: add --config.data.size=..."
        )
    shape = (size[0], size[1], weights.channels)
    if weights.size not in (None, size) or (fixed and fixed[0] != shape):
        raise ValueError(
            f"the file is for images of {weights.size or 'any size'} and {weights.channels} channels, the config's "
            f"{config.data.name!r} for {fixed[0] if fixed else size}; give another --config, or --config.data.size"
        )
    hidden = config.net.class_conditional and config.net.label_dropout > 0
    classes = max(weights.classes - hidden, 0)  # the last row of their labels is the null label
    return Run(config, shape, fixed[2] if fixed else classes)


def shapes(run: Run) -> Shapes:
    """Our parameters and their shapes, without computing any."""
    net = build.network(run.config, run.shape[-1], run.classes)
    x, t = jax.ShapeDtypeStruct((1, *run.shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    label = (t,) if net.classes else ()
    params = jax.eval_shape(net.init, jax.random.key(0), x, t, *label)["params"]
    return {name: leaf.shape for name, leaf in name_mapping.flatten(params).items()}


def faults(run: Run, weights: ForeignWeights, params: Shapes) -> list[str]:
    """Why weights do not belong to a run, a phrase each: first the settings in the file, then names and shapes."""
    flat, wrong = flatten(run.config), []
    for key, value in weights.config(run.shape[0]).items():
        if not (set(flat[key]) == set(value) if key in UNORDERED else flat[key] == value):
            wrong.append(f"{key} is {flat[key]!r} in the config and {value!r} in the file")
    if wrong:
        return wrong
    betas = beta(run.config)
    if weights.beta is not None and not (
        len(betas) == len(weights.beta) and np.allclose(betas, weights.beta, rtol=1e-3)
    ):
        return [
            f"the file lists its own betas, from {weights.beta[0]:.4g} to {weights.beta[-1]:.4g} in {len(weights.beta)}"
            f" steps, and the config's run from {betas[0]:.4g} to {betas[-1]:.4g} in {len(betas)}"
        ]
    rules = name_mapping.rules(weights.naming, params, run.config.net.heads)
    return name_mapping.faults(rules, weights.ema, params) or name_mapping.faults(rules, weights.raw, params)


def import_run(
    path: Path, kind: str, config: ConfigDict, folder: Path, step: int | None, report: Callable[[str], None]
):
    """Makes a run's folder of a file of weights: config.json, one checkpoint, and imported.json on where it came from.

    `step` is the number of the checkpoint, by default that of the file. Raises ValueError where the file is damaged or
    does not fit the config, gives no step while `step` is None, the config's network is no U-Net, or the folder holds a
    run; nothing is written then.
    """
    require_unet(config)
    weights, config = READERS[kind](path), absolute(config)
    number = weights.step if step is None else step
    if number is None:
        raise ValueError(f"{path}: neither the file nor its name gives the number of training steps; add --step=...")
    run = data(config, weights)
    params = shapes(run)
    if wrong := faults(run, weights, params):
        raise ValueError(f"{path} does not fit the config: {'; '.join(wrong)}; give another --config, or its keys")
    if manifest.newest(folder):
        raise ValueError(f"{folder} holds a run already: give another --workdir")

    experiment = build.experiment(config, run.shape, run.classes)
    rules = name_mapping.rules(weights.naming, params, config.net.heads)
    ema, raw = (name_mapping.read(rules, tensors, params) for tensors in (weights.ema, weights.raw))
    origin = {"from": kind, "file": path.name, "sha256": _digests(path), "tensors": len(weights.ema), "step": number}
    with lock(folder):
        state = write_run(folder, experiment, run, number, name_mapping.nest(ema), name_mapping.nest(raw), origin)
    report(
        f"weights     {path}: {len(weights.ema)} tensors, {format_numbers.count(state.ema):,} parameters, "
        "each used once"
    )
    if weights.unspecified:
        report(f"note        the file does not specify {weights.unspecified}: with wrong ones these weights give noise")
    sets = "the same, the only set in the file" if weights.raw is weights.ema else "those of the file"
    report(f"note        step {number}; averaged and raw weights are {sets}, the optimiser starts afresh")
    report(f"folder      {folder}")


def write_run(
    folder: Path, experiment: Experiment, run: Run, step: int, ema: Params, raw: Params, origin: Mapping[str, Any]
) -> TrainState:
    """Makes a run's folder of weights: config.json, imported.json with `origin`, one checkpoint, a fresh optimiser."""
    state = experiment.create_state()
    state = state._replace(
        step=jax.device_put(np.int32(step), state.step.sharding),
        params=_placed(raw, state.params),
        ema=_placed(ema, state.ema),
    )
    write_json(folder / "imported.json", origin)
    claim = partial(write_config, folder, run, format_numbers.describe_devices(list(experiment.mesh.devices.flat)))
    with closing(Checkpoints(folder / manifest.ROLLING, about=run.content, claim=claim)) as checkpoints:
        checkpoints.require(step, state)
    return state


def beta(config: ConfigDict) -> np.ndarray:
    """beta[1..T] of a variance preserving config, none for another."""
    c = config.diffusion
    if c.schedule not in VP_SCHEDULES:
        return np.zeros(0)
    alpha_bar = VP_SCHEDULES[c.schedule](c)
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def _placed(params: Params, fresh: Params) -> Params:
    """The parameters; those of the condition of data.augment, which files do not hold, as in a fresh network."""
    given = name_mapping.flatten(params)
    leaves = name_mapping.flatten(fresh).items()
    return name_mapping.nest({name: jax.device_put(given.get(name, leaf), leaf.sharding) for name, leaf in leaves})


def _digests(path: Path) -> dict[str, str]:
    """SHA-256 of the file, or of all files of a folder or of a checkpoint of several files."""
    near = path.rglob("*") if path.is_dir() else [path] if path.is_file() else path.parent.glob(f"{path.name}.*")
    return {file.name: manifest.hash_file(file) for file in sorted(near) if file.is_file()}
