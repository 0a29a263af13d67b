"""The data of figures of curves, read from the files of runs and ablations."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion.config import ablation_grid
from diffusion.config.ablation_grid import VARIANCE
from diffusion.config.config_dict import flatten, restore, unread
from diffusion.config.keys_with_legal_values import KEYS, NO_RESULT
from diffusion.config.validation import LEARNED
from diffusion.core import respacing
from diffusion.evaluation.guidance_effect import GUIDANCE
from diffusion.evaluation.measurement_protocol import QUANTISATION, WEIGHTS
from diffusion.experiment.build import levels
from diffusion.workdir import metrics_jsonl_files, result_files
from diffusion.workdir.result_files import Result

BOUND, TERMS, RMSE = "nll", "terms", "x_0_rmse"
FID = "fid"
SCORES = (FID, "fd_")
"""Prefixes of the names of Fréchet distances."""
TEST = "test"
ACCURACY = ", accuracy"
CHAIN = frozenset({"sampler", "steps"})
"""Keys that the protocol of a score of samples has."""
USUAL = {"weights": "ema", "split": "train", "quantisation": QUANTISATION[0]}
USUAL |= dict.fromkeys(("guidance", "guidance_steps", "classifier", "labels"))
"""Keys of a protocol beside the chain and the seed; scores that differ in one are no draws of one number."""
SHOWN = frozenset({"sample.sampler", "sample.grid", "sample.eta", "sample.n"})
"""Keys of an ablation's rows that the legend or the axis shows, or that change no score."""


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics file. Raises ValueError where there is none."""
    if not metrics_jsonl_files.exist(folder):
        raise ValueError(f"{folder} holds no run (no metrics.jsonl in it); give the --workdir of a run")
    return metrics_jsonl_files.scalars(folder)


def runs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The metrics of the runs in a folder, or of the one that it is, by name. Raises ValueError where there is none."""
    folders = metrics_jsonl_files.runs(folder)
    if not folders:
        raise ValueError(f"{folder} holds no run and no folders of runs (no metrics.jsonl); give another --workdir")
    return {path.resolve().name: metrics(path) for path in folders}


def _usual_first(bound: Result) -> tuple[bool, int, bool, int]:
    """Sorts bounds: held-out images, long chains, averaged weights, many images first."""
    facts = bound.protocol
    averaged = facts.get("weights") == WEIGHTS[0]
    return facts.get("split") != TEST, -len(bound.series[TERMS]), not averaged, -facts.get("images", 0)


def bounds(folder: Path, step: int | None = None) -> list[Result]:
    """The bounds, with their terms, of one step of a run, by default the newest; those of held-out images first.

    Raises ValueError, with the command that measures one, where there is none.
    """
    measured = [r for _, r in result_files.find(folder) if r.name == BOUND and {TERMS, RMSE} <= r.series.keys()]
    steps = [r.protocol.get("step", 0) for r in measured]
    chosen = step if step is not None else max(steps, default=0)
    of_step = [r for r in measured if r.protocol.get("step", 0) == chosen]
    if not of_step:
        where = "" if step is None else f" at step {step}"
        raise ValueError(
            f"{folder} has no terms of the bound{where}: python scripts/evaluate.py --workdir={folder} --metrics=nll"
        )
    return sorted(of_step, key=_usual_first)


def terms(measured: list[Result]) -> dict[str, np.ndarray]:
    """The terms in bits/dim of the bounds over the longest chain, by split; entry t - 1 is that of step t."""
    T = max(len(r.series[TERMS]) for r in measured)
    longest = [r for r in measured if len(r.series[TERMS]) == T]
    return {f"{r.protocol.get('split', TEST)} images": np.array(r.series[TERMS]) for r in reversed(longest)}


Scored = tuple[str, str, int, str, float]
"""Key of a trained network, sampler as in the legend, steps, name of the score, its value."""

SAMPLER_NAMES = {"ancestral": "ancestral", "ddim": "DDIM", "dpm_solver": "DPM-Solver++", "heun": "Heun"}
"""Names of samplers in figures."""


def scores(folder: Path) -> tuple[dict[str, dict[int, list[float]]], str]:
    """Scores by sampler and number of steps, below a folder of an ablation or of runs, and the score's name.

    Of several scores, the one with the most values is taken. Networks are left out if none of their samplers has scores
    at two numbers of steps; labels name the network where there are several. "fid_10000" is named FID-10000. Raises
    ValueError where no network is left.
    """
    scored = [*_of_ablation(folder), *_of_runs(folder)]
    names = [score for *_, score, _ in scored]
    name = max(dict.fromkeys(names), key=names.count, default="")
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for network, sampler, steps, score, value in scored:
        if score == name:
            curves.setdefault((network, sampler), {}).setdefault(steps, []).append(value)
    networks = {network for (network, _), points in curves.items() if len(points) > 1}
    if not networks:
        raise ValueError(
            f"{folder} has no sampler with scores at two numbers of steps; python scripts/ablate.py "
            "--grid=configs/ablations/samplers.py makes such a folder: give it as --workdir"
        )
    labelled = {
        sampler if len(networks) == 1 else f"{network}: {sampler}": points
        for (network, sampler), points in sorted(curves.items())
        if network in networks
    }
    return labelled, name.upper().replace("_", "-") if name.startswith(FID) else name


def _of_ablation(folder: Path) -> Iterator[Scored]:
    """Scores in the result files of an ablation."""
    for path in sorted(folder.rglob(ablation_grid.RESULT)):
        cell = ablation_grid.read(path.parent)
        if cell and not cell["diverged"] and (value := cell["results"].get(cell.get("score"))) is not None:
            config = restore(cell["config"])
            steps = levels(config, respacing.parse(config.sample.grid)).T
            sampler = _label(config.sample.to_dict(), f", {config.diffusion.variance} variance".replace("_", "-"))
            yield f"{cell['grid']} {_network(config)}{_drawn(config)}", sampler, steps, cell["score"], value


def _of_runs(folder: Path) -> Iterator[Scored]:
    """Scores in the result files of runs; FID-N with another N is another score."""
    for path, result in result_files.find(folder):
        p = result.protocol
        if result.name.startswith(SCORES) and p.keys() >= CHAIN:
            n = f", {p['images']} samples" if p.get("images") and result.name != FID else ""  # fid_10000 has it
            run = str(path.parent.parent).removeprefix(str(folder)).strip("/") or p.get("config", "")
            unusual = (f", {key} {p[key]}" for key, usual in USUAL.items() if p.get(key, usual) != usual)
            network = f"{run} at {p.get('step', '')}{n}{''.join(unusual)}"
            for name, value in result.values.items():
                if name.startswith(SCORES) and np.isfinite(value):
                    yield network, _label(p), int(p["steps"]), name, value


def _network(config: ConfigDict) -> str:
    """A hash of what determines the trained network, apart from the seed: 12 hex digits."""
    fixed = set() if config.diffusion.variance in LEARNED else {VARIANCE}
    other = NO_RESULT | {ablation_grid.SEED} | fixed
    keys = {k: v for k, v in flatten(config).items() if k not in other and not k.startswith(("sample.", "eval."))}
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12]


def _drawn(config: ConfigDict) -> str:
    """How samples are drawn, as far as it is not usual and the sampler's name does not tell it."""
    flat, unshown = flatten(config), SHOWN | NO_RESULT | unread(config)
    keys = [key for key in KEYS if key.startswith("sample.") and key not in unshown and flat[key] != KEYS[key].default]
    return "".join(f", {key.removeprefix('sample.')} {flat[key]}" for key in keys)


def _label(chain: Mapping[str, Any], variance: str = "") -> str:
    sampler: str = chain["sampler"]
    settings = {"ancestral": variance, "ddim": f", η = {chain.get('eta') or 0.0:g}"}
    return SAMPLER_NAMES.get(sampler, sampler) + settings.get(sampler, "")


def guidance(folder: Path, step: int | None = None) -> tuple[dict[str, list[np.ndarray]], float]:
    """Scales, accuracy and diversity at each, of every kind of guidance; and the accuracy on held-out images.

    `step` defaults to the newest; of several measurements the one that was written last is taken. Raises ValueError
    where there is none.
    """
    measured = [
        (result.protocol.get("step", 0), path.stat().st_mtime, result)
        for path, result in result_files.find(folder)
        if result.name == GUIDANCE and step in (None, result.protocol.get("step"))
    ]
    if not measured:
        raise ValueError(
            f"{folder} has no measurement of guidance: python scripts/guidance_scales.py --workdir={folder}, with "
            "--classifier if you have one"
        )
    *_, chosen = max(measured, key=lambda found: found[:2])
    series, curves = chosen.series, {}
    for name in (name.removesuffix(ACCURACY) for name in series if name.endswith(ACCURACY)):
        curves[name] = [np.array(series[key]) for key in ("scale", name + ACCURACY, f"{name}, diversity")]
    return curves, chosen.values["held_out_accuracy"]
