"""What a measured number must be quoted with. Every result file and every printed table carries all of it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffusion.config.config import config_hash
from diffusion.core import respacing
from diffusion.experiment.build import Experiment
from diffusion.runtime import provenance
from diffusion.runtime.text import describe_devices
from diffusion.training.state import Params

QUANTISATION = ("uint8 by rounding", "uint8 by truncation")
WEIGHTS = ("ema", "raw")
FULL = 50_000
"""Samples that published scores are of."""

CORRECTED = frozenset({"annealed_langevin", "predictor_corrector"})
"""Samplers that read sample.corrector_steps and sample.corrector_snr."""

SUFFIXES: dict[str, Callable[[Any], str]] = {
    "sampler": str,
    "grid": lambda text: text.replace(",", "-"),
    "eta": lambda eta: f"eta{eta:g}" if eta else "",
    "labels": lambda labels: "-".join(map(str, ("labels", *labels))),
    "seed": "seed{}".format,
    "weights": str,
    "quantisation": lambda text: {QUANTISATION[1]: "truncated"}.get(text, ""),
    "images": "n{}".format,
}
"""Entries of a protocol whose departures are told in a file's name, and how."""


class Subject(NamedTuple):
    """A set of weights of a run: what is measured."""

    ours: Experiment
    params: Params
    folder: Path
    """Of the run; results go below it."""
    step: int
    raw: bool
    """Whether `params` are the weights themselves instead of their moving average."""


def of_run(ours: Experiment, folder: Path, step: int, raw: bool = False) -> dict[str, Any]:
    """Which weights of which run, and with what they are evaluated."""
    c = ours.config
    products = jax.config.jax_default_matmul_precision or "default"  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "config": folder.resolve().name,
        "config_hash": config_hash(c),
        "paper": c.paper,
        "data": c.data.name,
        "step": step,
        "weights": WEIGHTS[raw],
        "precision": f"{c.net.dtype}, products {products}",
        **provenance.stamp(describe_devices(list(ours.mesh.devices.flat))),
    }


def of_chain(ours: Experiment, grid: str | None = None) -> dict[str, Any]:
    """Which steps, and whether x_0_hat is clipped; `grid` is by default the config's."""
    text = ours.config.sample.grid if grid is None else grid
    steps = ours.sampled(respacing.parse(text)).T
    return {"grid": text or "full", "steps": steps, "clip": ours.config.sample.clip}


def of_samples(
    ours: Experiment,
    sampler: str | None = None,
    grid: str | None = None,
    eta: float | None = None,
    seed: int = 0,
    truncate: bool = False,
    labels: tuple[int, ...] = (),
) -> dict[str, Any]:
    """How samples are made; what is not given is the config's. eta is null where the sampler has none.

    Guidance and labels are told only where samples are guided, or not of all classes; the corrector only of samplers
    that have one.
    """
    c = ours.config.sample
    name = sampler or c.sampler
    noise = {"ddim": c.eta if eta is None else eta}.get(name)
    chain = of_chain(ours, grid)
    langevin = {"corrector": f"{c.corrector_steps} steps, snr {c.corrector_snr:g}"} if name in CORRECTED else {}
    told = {**langevin, **of_guidance(ours), **({"labels": list(labels)} if labels else {})}
    return {"sampler": name, **chain, "eta": noise, **told, "seed": seed, "quantisation": QUANTISATION[truncate]}


def of_guidance(ours: Experiment) -> dict[str, Any]:
    """How samples are guided, with the digest of the classifier where there is one; empty where they are not."""
    scale, interval, params = ours.guide.scale, ours.guide.interval, ours.guide.params
    where = {"guidance_steps": "{}..{}".format(*interval)} if interval else {}
    by = {"classifier": digest(params)[:12]} if params is not None else {}
    return {"guidance": scale, **where, **by} if scale else {}


def departures(ours: Experiment, protocol: Mapping[str, Any], usual_images: int = FULL) -> list[str]:
    """What sets a protocol apart from that of the config, the averaged weights and seed 0: suffixes of a file name."""
    usual = {**of_samples(ours), "weights": WEIGHTS[0], "images": usual_images}
    different = [key for key in SUFFIXES if key in protocol and protocol[key] not in (None, usual.get(key))]
    return [SUFFIXES[key](protocol[key]) for key in different]


def digest(params: Params) -> str:
    """64 hex digits of the values of all parameters: files that were made from others are never taken for theirs."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(jax.device_get(leaf))
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def lines(protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The protocols of results, by name, for a console report: what all share, then what each has of its own."""
    first = next(iter(protocols.values()))
    shared = [key for key in first if all(key in p and p[key] == first[key] for p in protocols.values())]
    made = ["protocol", *(f"  {key:13} {_text(first[key])}" for key in shared)]
    for name, protocol in protocols.items():
        if rest := [key for key in protocol if key not in shared]:
            made += [f"protocol of {name}", *(f"  {key:13} {_text(protocol[key])}" for key in rest)]
    return made


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return ("" if value is None else str(value)) or "-"
