"""What is measured, and what its numbers must be quoted with: every result file and every table carries all of it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffusion.config.config_dict import config_hash
from diffusion.config.keys_with_legal_values import DDIM, EDM_SAMPLER, LANGEVIN
from diffusion.core import respacing
from diffusion.data.dataset_identity import Identity
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry_of_samplers_and_schedules import clips
from diffusion.runtime import provenance
from diffusion.runtime.format_numbers import describe_devices
from diffusion.training.state import Params

QUANTISATION = ("uint8 by rounding", "uint8 by truncation")
WEIGHTS = ("ema", "raw")
FULL = 50_000
"""Samples that published scores are of."""

CORRECTED, CHURNED, STOCHASTIC = (samplers for _, samplers in (LANGEVIN, EDM_SAMPLER, DDIM))
"""Samplers that read the corrector's keys of config.sample; those of churn; eta."""

SUFFIXES: dict[str, Callable[[Any], str]] = {
    "sampler": str,
    "grid": lambda text: text.replace(",", "-"),
    "eta": "eta{:g}".format,
    "labels": lambda labels: "-".join(map(str, ("labels", *labels))),
    "classifier": "classifier-{}".format,
    "seed": "seed{}".format,
    "subset_seed": "subsets_seed{}".format,
    "weights": str,
    "quantisation": lambda text: {QUANTISATION[1]: "truncated"}.get(text, ""),
    "images": "n{}".format,
}
"""Entries of a protocol whose departures are part of a file's name, and how they are written."""


class Subject(NamedTuple):
    """A set of weights of a run."""

    experiment: Experiment
    params: Params
    folder: Path
    """Of the run; results are written below it."""
    step: int
    raw: bool
    """Whether `params` are the raw weights instead of their moving average."""
    data: Identity | None = None
    """Of the data that it is measured on; None where it is measured on none."""


class Chain(NamedTuple):
    """How images are drawn; None is the config's value."""

    sampler: str | None = None
    grid: str | None = None
    eta: float | None = None
    seed: int = 0
    truncate: bool = False
    """Whether levels are cut instead of rounded."""
    labels: tuple[int, ...] = ()
    """Labels of the images, in turn; empty: all classes."""


def of_run(subject: Subject) -> dict[str, Any]:
    """Which weights of which run, and in which precision they are evaluated."""
    experiment = subject.experiment
    c = experiment.config
    return {
        "config": subject.folder.resolve().name,
        "config_hash": config_hash(c),
        "paper": c.paper,
        "data": c.data.name,
        "data_identity": subject.data and str(subject.data),
        "step": subject.step,
        "weights": WEIGHTS[subject.raw],
        "precision": precision(experiment),
        **provenance.stamp(describe_devices(list(experiment.mesh.devices.flat))),
    }


def precision(experiment: Experiment) -> str:
    """The type of the network, and how this process multiplies float32."""
    products = jax.config.jax_default_matmul_precision or "default"  # pyright: ignore[reportAttributeAccessIssue]
    dtype = jnp.dtype(getattr(experiment.net, "compute_dtype", jnp.float32)).name  # the MLP computes in float32
    return f"{dtype}, products {products}"


def grid_of(experiment: Experiment, grid: str | None) -> str:
    """The grid of a chain; None is the config's."""
    return experiment.config.sample.grid if grid is None else grid


def of_chain(experiment: Experiment, grid: str | None = None) -> dict[str, Any]:
    """Which steps, and whether x_0_hat is clipped; `grid` is by default the config's."""
    text = grid_of(experiment, grid)
    steps = experiment.sampled(respacing.parse(text)).T
    return {"grid": text or "full", "steps": steps, "clip": clips(experiment.config)}


def of_samples(experiment: Experiment, chain: Chain = Chain()) -> dict[str, Any]:  # noqa: B008
    """How samples are made. eta is null where the sampler has none.

    Guidance and labels are reported only where samples are guided, or not of all classes; the corrector and churn only
    of samplers that have them.
    """
    c = experiment.config.sample
    name = chain.sampler or c.sampler
    eta = (c.eta if chain.eta is None else chain.eta) if name in STOCHASTIC else None
    langevin = {"corrector": f"{c.corrector_steps} steps, snr {c.corrector_snr:g}"} if name in CORRECTED else {}
    churned = f"{c.churn:g} from {c.churn_from:g} to {c.churn_to:g}, noise {c.churn_noise:g}"
    churn = {"churn": churned} if name in CHURNED and c.churn else {}
    labels = {"labels": list(chain.labels)} if chain.labels else {}
    chosen = {**langevin, **churn, **of_guidance(experiment), **labels}
    facts = {"sampler": name, **of_chain(experiment, chain.grid), "eta": eta, **chosen, "seed": chain.seed}
    return {**facts, "quantisation": QUANTISATION[chain.truncate]}


def of_guidance(experiment: Experiment) -> dict[str, Any]:
    """How samples are guided, with the digest of the classifier where there is one; empty where they are not."""
    _, scale, interval, learnt, _ = experiment.guide
    steps = {"guidance_steps": "{}..{}".format(*interval)} if interval else {}
    classifier = {"classifier": digest(learnt.params)[:12]} if learnt else {}
    return {"guidance": scale, **steps, **classifier} if scale else {}


def departures(experiment: Experiment, protocol: Mapping[str, Any], usual_images: int = FULL) -> list[str]:
    """What sets a protocol apart from that of the config, the averaged weights and seed 0: suffixes of a file name."""
    usual = {**of_samples(experiment), "weights": WEIGHTS[0], "images": usual_images}
    usual |= {"eta": usual["eta"] or 0.0, "subset_seed": protocol.get("seed") or 0}
    different = [key for key in SUFFIXES if key in protocol and protocol[key] not in (None, usual.get(key))]
    return [SUFFIXES[key](protocol[key]) for key in different]


def digest(params: Params) -> str:
    """SHA-256 of the values of all parameters, 64 hex digits."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(jax.device_get(leaf))
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def lines(protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The protocols of results, by name, for a console report: the entries that all share, then the others of each.

    Empty entries, as the paper of a config that reproduces none, are left out.
    """
    protocols = {name: {k: v for k, v in p.items() if str(v)} for name, p in protocols.items()}
    first = next(iter(protocols.values()))
    shared = [key for key in first if all(key in p and p[key] == first[key] for p in protocols.values())]
    text = ["protocol", *(f"  {key:13} {first[key]}" for key in shared)]
    for name, protocol in protocols.items():
        if rest := [key for key in protocol if key not in shared]:
            text += [f"protocol of {name}", *(f"  {key:13} {protocol[key]}" for key in rest)]
    return text
