"""The data of figures of curves, read from the files of runs and ablations."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diffusion.config import ablation_grid
from diffusion.config.ablation_grid import VARIANCE
from diffusion.config.config_dict import flatten, restore
from diffusion.config.schema import NO_RESULT
from diffusion.config.validation import LEARNED
from diffusion.core import respacing
from diffusion.evaluation.guidance_effect import GUIDANCE
from diffusion.evaluation.protocol import QUANTISATION, SUFFIXES, WEIGHTS
from diffusion.experiment.build import levels
from diffusion.figures.curve_figures import GuidanceCurve
from diffusion.figures.style import LINES
from diffusion.workdir import metrics_jsonl, result_files
from diffusion.workdir.result_files import Result

BOUND, TERMS, RMSE = "nll", "terms", "x_0_rmse"
FID = "fid"
SCORES = (FID, "fd_")
"""Prefixes of the names of Fréchet distances."""
TEST = "test"
ACCURACY = ", accuracy"
TOLD = ("config", "sampler", "grid", "eta", "classifier", "seed", "weights", "images")
"""Keys of the protocol of a measurement of guidance that tell its curves from those of others."""
CHAIN = frozenset({"sampler", "steps"})
"""Keys that the protocol of a score of samples has."""
USUAL = {"weights": "ema", "split": "train", "quantisation": QUANTISATION[0], "clip": True}
USUAL |= dict.fromkeys(("guidance", "labels", "corrector", "churn"))
"""Keys of a protocol beside the chain and the seed; scores that differ in one are no draws of one number."""
OF_CONFIG = frozenset({"clip", "corrector", "churn"})
"""Those of them that only a run's config sets: runs side by side may differ in them, each with its own chain."""


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics file. Raises ValueError where there is none, or a line is damaged."""
    if not metrics_jsonl.exist(folder):
        raise ValueError(f"{folder} holds no run (no metrics.jsonl in it); give the --workdir of a run")
    try:
        return [json.loads(line) for line in metrics_jsonl.read(folder)]
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{folder / metrics_jsonl.NAME} is damaged ({error}); restore it, or remove the line"
        ) from error


def runs(folder: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[tuple[int, float]]], str]:
    """The runs in a folder, or the one that it is: their metrics by name, (step, Fréchet distance) by name, its name.

    Of several distances, numbers of samples, or protocols apart from the chain, the one with the most values is taken;
    of several chains at a step, that of the run's config, whose file has the shortest name but for the seed. Raises
    ValueError where there is no run.
    """
    folders = metrics_jsonl.runs(folder)
    if not folders:
        raise ValueError(f"{folder} holds no run and no folders of runs (no metrics.jsonl); give another --workdir")
    named = {path.resolve().name: path for path in folders}
    points: dict[str, dict[str, dict[int, float]]] = {}
    for name, path in named.items():
        for _, r in sorted(result_files.find(path), key=_length):
            if r.name.startswith(SCORES):
                n = r.values.get(f"{r.name}_samples", r.protocol.get("images", 0))
                value = r.values.get(r.name, r.values.get(f"{r.name}_{n}", np.nan))  # "fid_1000" of so few samples
                label = f"{r.name} of {n:.0f} samples{_unusual(r.protocol, OF_CONFIG)}"
                points.setdefault(label, {}).setdefault(name, {}).setdefault(r.protocol.get("step", 0), value)
    distance = max(points, key=lambda label: sum(map(len, points[label].values())), default="")
    drawn = {name: sorted(values.items()) for name, values in points.get(distance, {}).items()}
    return {name: metrics(path) for name, path in named.items()}, drawn, distance


def _length(found: tuple[Path, Result]) -> int:
    """The length of the name of a result's file without the seed, which a final evaluation has of its config."""
    path, result = found
    return len(path.name.replace(f"_{SUFFIXES['seed'](result.protocol.get('seed'))}", ""))


def _unusual(protocol: Mapping[str, Any], but: frozenset[str] = frozenset()) -> str:
    """Entries of a protocol, but for some keys, that differ from USUAL, for a label."""
    different = [key for key, usual in USUAL.items() if key not in but and protocol.get(key, usual) != usual]
    return "".join(f", {key} {protocol[key]}" for key in different)


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


class Scored(NamedTuple):
    """One score of one set of samples."""

    network: str
    """A key of the trained network."""
    sampler: str
    """Name of the sampler in the legend."""
    steps: int
    score: str
    value: float


LABELS = {
    "ancestral": "ancestral{variance}",
    "ddim": "DDIM, η = {eta:g}",
    "dpm_solver": "DPM-Solver++(2M)",
    "heun": "Heun (2 calls a step)",
}
"""Names of samplers in the legend; ancestral sampling in an ablation has its variance."""


def scores(folder: Path) -> tuple[dict[str, dict[int, list[float]]], str]:
    """Scores by sampler and number of steps, below a folder of an ablation or of runs, and the score's name.

    Of several scores, the one with the most values is taken. Networks are left out if none of their samplers has scores
    at two numbers of steps; labels name the network where there are several. "fid_10000" is named FID-10000. Raises
    ValueError where no network is left.
    """
    scored = [*_of_ablation(folder), *_of_runs(folder)]
    names = [one.score for one in scored]
    name = max(dict.fromkeys(names), key=names.count, default="")
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for one in (one for one in scored if one.score == name):
        curves.setdefault((one.network, one.sampler), {}).setdefault(one.steps, []).append(one.value)
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
            yield Scored(f"{cell['grid']} {_network(config)}", sampler, steps, cell["score"], value)


def _of_runs(folder: Path) -> Iterator[Scored]:
    """Scores in the result files of runs; FID-N with another N is another score."""
    for path, result in result_files.find(folder):
        p = result.protocol
        if result.name.startswith(SCORES) and p.keys() >= CHAIN:
            n = f", {p['images']} samples" if p.get("images") and result.name != FID else ""  # fid_10000 has it
            run = str(path.parent.parent).removeprefix(str(folder)).strip("/") or p.get("config", "")
            network = f"{run} at {p.get('step', '')}{n}{_unusual(p)}"
            for name, value in result.values.items():
                if name.startswith(SCORES) and np.isfinite(value):
                    yield Scored(network, _label(p), int(p["steps"]), name, value)


def _network(config: ConfigDict) -> str:
    """A hash of what determines the trained network, apart from the seed: 12 hex digits."""
    fixed = set() if config.diffusion.variance in LEARNED else {VARIANCE}
    other = NO_RESULT | {ablation_grid.SEED} | fixed
    keys = {k: v for k, v in flatten(config).items() if k not in other and not k.startswith(("sample.", "eval."))}
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:12]


def _label(chain: Mapping[str, Any], variance: str = "") -> str:
    sampler: str = chain["sampler"]
    return LABELS.get(sampler, sampler).format(eta=chain.get("eta") or 0.0, variance=variance)


def guidance(folder: Path, step: int | None = None) -> tuple[dict[str, GuidanceCurve], float]:
    """The measured curves of guidance below a folder, by kind, and the accuracy on held-out images.

    `step` defaults to the newest. Names of several measurements hold what these differ in. Raises ValueError where
    there is no measurement, or more curves than a figure has lines.
    """
    measured = [
        r for _, r in result_files.find(folder) if r.name == GUIDANCE and step in (None, r.protocol.get("step"))
    ]
    if not measured:
        raise ValueError(
            f"{folder} has no measurement of guidance: python scripts/guidance_scales.py --workdir={folder}, with "
            "--classifier if you have one"
        )
    newest = max(r.protocol.get("step", 0) for r in measured)
    measured = [r for r in measured if r.protocol.get("step", 0) == newest]
    differing = [key for key in TOLD if len({str(r.protocol.get(key)) for r in measured}) > 1]
    curves: dict[str, GuidanceCurve] = {}
    for series, p in ((r.series, r.protocol) for r in measured):
        for name in (name.removesuffix(ACCURACY) for name in series if name.endswith(ACCURACY)):
            fields = (series["scale"], series[name + ACCURACY], series[f"{name}, diversity"])
            known = [f", {key} {p[key]}" for key in differing if p.get(key) is not None]
            curves.setdefault(name + "".join(known), GuidanceCurve(*map(np.array, fields)))
    if len(curves) > len(LINES):
        raise ValueError(
            f"{folder} has {len(curves)} curves of guidance at step {newest}, and a figure at most {len(LINES)}; move "
            f"those of {result_files.FOLDER}/{GUIDANCE}_{newest}_*.json away that are not to be drawn"
        )
    return curves, measured[0].values["held_out_accuracy"]
