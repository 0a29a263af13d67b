"""What scripts/evaluate.py runs: from the request to result files.

What cannot be done is refused before anything is computed. Order: names and flags, the data, the weights of the feature
network, the checkpoint; then the likelihoods, the samples, their features, the scores.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from diffusion.data.dataset_interface import Source
from diffusion.evaluation import draw_and_store_sample_sets, measure_likelihood, measurement_protocol
from diffusion.evaluation.flow_nll import FLOW
from diffusion.evaluation.measurement_protocol import FULL, Chain, Subject
from diffusion.evaluation.sample_quality import (
    INCEPTION,
    check_names,
    network,
    score_small_images,
    score_with_inception,
)
from diffusion.evaluation.variational_bound import BOUND
from diffusion.experiment import build, load_run
from diffusion.experiment.build import Experiment
from diffusion.metrics import read_and_write_sample_sets, scores_without_inception
from diffusion.metrics.first_images_of_split import Split, split
from diffusion.metrics.inception_features import Extractor
from diffusion.metrics.scores_without_inception import SMALL
from diffusion.runtime.progress_bar import Counting
from diffusion.runtime.workdir_and_data_flags import DataFlags
from diffusion.workdir import result_files
from diffusion.workdir.result_files import Result
from diffusion.workdir.run_config import Run

FEW = 1000
"""Upper limit of the samples that are drawn by default for scores without Inception."""

TEST, TRAIN = "test", "train"

LIKELIHOODS = {kind.name: kind for kind in (BOUND, FLOW)}
"""Metrics of the network on images, without samples."""


class Request(NamedTuple):
    """What to evaluate; None is the default."""

    metrics: tuple[str, ...] = ()
    """Names; none: the bound, and what applies to small labelled grey images."""
    split: str | None = None
    n: int | None = None
    samples: Path | None = None
    reference_n: int | None = None
    inception: Path | None = None
    chain: Chain = Chain()
    guidance: Mapping[str, Any] = MappingProxyType({})
    """Keys of the config that draw_and_store_sample_sets.guided changes."""
    step: int | None = None
    raw: bool = False
    batch_size: int | None = None
    data: DataFlags = DataFlags()


class Measured(NamedTuple):
    """One metric, and what to print of it."""

    result: Result
    path: Path
    lines: list[str]


class Plan(NamedTuple):
    """A request that can be carried out."""

    request: Request
    names: tuple[str, ...]
    subject: Subject
    sources: dict[str, Source]
    extractor: Extractor | None
    samples: np.ndarray | None
    """Those of --samples."""
    n: int
    """Samples."""


def prepare(folder: Path, run: Run, request: Request) -> Plan:
    """Raises ValueError, before anything is computed, where the request cannot be carried out."""
    check_names(request.metrics, [*LIKELIHOODS])
    result_files.require(folder)
    run = draw_and_store_sample_sets.guided(run, request.guidance)
    draw_and_store_sample_sets.check(run, request.chain)
    data = load_run.data(run, request.data)
    sources = {TRAIN: data.train, TEST: data.held_out}
    default = [BOUND.name, *(SMALL if scores_without_inception.fits(sources[TRAIN]) else ())]
    names = tuple(dict.fromkeys(request.metrics or default))
    scores = [name for name in names if name not in LIKELIHOODS]
    if len(scores) < len(names):
        split(request.split or TEST, sources[request.split or TEST], request.n)
    if request.guidance and (request.samples or not scores):
        raise ValueError(
            "--guidance, --guidance_from, --guidance_to and --classifier act on samples that are drawn here"
        )
    inception = any(name in INCEPTION for name in scores)
    samples = _read(request, run.shape) if request.samples else None
    n = len(samples) if samples is not None else request.n or (FULL if inception else min(sources[TEST].size, FEW))
    _check_scores(scores, request, sources, n)
    extractor = network(scores, request.inception)
    if samples is not None and len(scores) == len(names):
        experiment, params, step = build.experiment(run.config, run.shape, run.classes), None, 0
    else:
        experiment, params, step = load_run.load(folder, run, request.step, request.raw)
    subject = Subject(experiment, params, folder, step, request.raw, data.identity)
    return Plan(request, names, subject, sources, extractor, samples, n)


def run(plan: Plan, progress: Counting) -> Iterator[Measured]:
    """Carries a plan out; yields each metric once it is measured and written."""
    request, subject = plan.request, plan.subject
    chain, name = request.chain, request.split or TEST
    for kind in [kind for kind in LIKELIHOODS.values() if kind.name in plan.names]:
        images = split(name, plan.sources[name], request.n)
        with progress(kind.name, images.n) as count:
            result, parts = measure_likelihood.measure(
                kind, subject, images, grid=chain.grid, batch_size=request.batch_size, seed=chain.seed, progress=count
            )
        suffixes = measurement_protocol.departures(subject.experiment, result.protocol, images.source.size)
        path = result_files.write(subject.folder, result, *suffixes)
        if parts:
            parts.unlink(missing_ok=True)
        yield Measured(result, path, kind.lines(result))
    if set(plan.names) - LIKELIHOODS.keys():
        yield from _scores(plan, progress)


def _scores(plan: Plan, progress: Counting) -> Iterator[Measured]:
    request, subject = plan.request, plan.subject
    if plan.samples is not None:
        unknown = ("step", "weights", "sampler", "grid", "steps", "eta", "clip", "seed", "paper")  # how they were drawn
        facts = measurement_protocol.of_run(subject) | dict.fromkeys(unknown)
        facts |= {"quantisation": "uint8 as given", "samples": str(request.samples)}
        samples, origin = plan.samples, [_tag(request)]
    else:
        with progress("samples", plan.n) as count:
            batch = request.batch_size or subject.experiment.config.sample.batch_size
            samples, broken = draw_and_store_sample_sets.draw(subject, request.chain, plan.n, batch, count)
        if broken:
            raise ValueError(
                f"{broken} of {plan.n} samples hold numbers that are not finite: the network has diverged, and no "
                "score of its samples means anything"
            )
        facts, origin = draw_and_store_sample_sets.facts(subject, request.chain), _guidance(request, subject.experiment)

    def written(result: Result, lines: list[str], *more: str) -> Measured:
        names = [*origin, *more, *measurement_protocol.departures(subject.experiment, result.protocol)]
        return Measured(result, result_files.write(subject.folder, result, *names), lines)

    if plan.extractor:
        real = _reference(request, plan.sources)
        parts, seed = subject.folder / result_files.FOLDER / "parts", request.chain.seed
        scored = score_with_inception(
            plan.names, plan.extractor, samples, real, seed=seed, facts=facts, parts=parts, progress=progress
        )
        for result, lines in scored:
            yield written(result, lines, *[f"of{real.n}"] * (real.n < real.source.size))
    for result, lines in score_small_images(plan.names, samples, plan.sources[TRAIN], plan.sources[TEST], facts):
        yield written(result, lines)


def _check_scores(names: list[str], request: Request, sources: dict[str, Source], n: int) -> None:
    for name in names:
        if name in SMALL:
            scores_without_inception.check(name, sources[TRAIN], n)
        elif n < INCEPTION[name].least:
            raise ValueError(f"--metrics={name} needs at least {INCEPTION[name].least} samples, and there are {n}")
        elif (real := _reference(request, sources)).n < INCEPTION[name].least and INCEPTION[name].compares:
            raise ValueError(f"--metrics={name} needs at least {INCEPTION[name].least} real images, got {real.n}")


def _reference(request: Request, sources: Mapping[str, Source]) -> Split:
    """The real images that samples are compared with in Inception's features."""
    name = request.split or TRAIN
    return split(name, sources[name], request.reference_n)


def _read(request: Request, shape: tuple[int, int, int]) -> np.ndarray:
    assert request.samples is not None
    images = read_and_write_sample_sets.read(request.samples, shape)
    if request.n and request.n > len(images):
        raise ValueError(f"--n={request.n}: {request.samples} has {len(images)} images; give at most that many")
    return images[: request.n or None]


def _tag(request: Request) -> str:
    """The part of a result's name that stands for --samples: the name of the file or folder, and a digest of its path.

    Without the digest a/x.npz and b/x.npz would share their results.
    """
    assert request.samples is not None
    path = request.samples.resolve()
    return f"{path.name.removesuffix('.npz')}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _guidance(request: Request, experiment: Experiment) -> list[str]:
    """The parts of a result's name for guidance that is not the config's: guidance2, guidance_steps100-900."""
    facts = measurement_protocol.of_guidance(experiment) or {"guidance": 0.0}
    words = [
        f"{key}{value:g}" if key == "guidance" else f"{key}{value}".replace("..", "-") for key, value in facts.items()
    ]
    return words if request.guidance else []
