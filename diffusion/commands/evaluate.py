"""An evaluation from what was asked for to result files; what can be refused is refused before anything is computed.

Order: names and flags, the data, the weights of the feature network, the checkpoint; then the bound, the samples, their
features, the scores.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.data.source import Source
from diffusion.evaluation import bound, flow, protocol, sample_sets
from diffusion.evaluation.protocol import FULL, Subject
from diffusion.evaluation.sample_sets import Chain
from diffusion.evaluation.scores import INCEPTION, check_names, in_inception, in_small, network
from diffusion.experiment import build, load
from diffusion.metrics import sample_set, small_image_scores
from diffusion.metrics.feature_pass import Progress
from diffusion.metrics.features import Extractor
from diffusion.metrics.sample_set import SampleSet
from diffusion.metrics.small_image_scores import SMALL
from diffusion.workdir import results
from diffusion.workdir.results import Result
from diffusion.workdir.run import Run

FEW = 1000
"""Samples drawn unasked for scores without Inception, at most."""

TEST, TRAIN = "test", "train"

LIKELIHOODS = {
    bound.NAME: (bound.measure, bound.lines),
    flow.NAME: (flow.measure, flow.lines),
}
"""Metrics of the network on images, without samples: how each is measured, and told."""


class Asked(NamedTuple):
    """What an evaluation is asked for; None is the usual."""

    metrics: tuple[str, ...] = ()
    """Names; none: the bound, and what applies to small labelled grey images."""
    split: str | None = None
    n: int | None = None
    samples: Path | None = None
    reference_n: int | None = None
    inception: Path | None = None
    chain: Chain = Chain()
    step: int | None = None
    raw: bool = False
    batch_size: int | None = None


class Measured(NamedTuple):
    """One metric, and what to print of it."""

    result: Result
    path: Path
    lines: list[str]


class Plan(NamedTuple):
    """What will be done."""

    asked: Asked
    names: tuple[str, ...]
    subject: Subject
    sources: dict[str, Source]
    extractor: Extractor | None
    given: SampleSet | None
    n: int
    """Samples."""


def prepare(folder: Path, run: Run, asked: Asked) -> Plan:
    """Raises ValueError, before anything is computed, where something that was asked for cannot be had."""
    check_names(asked.metrics, [*LIKELIHOODS])
    sample_sets.check(run, asked.chain)
    sources = {split: build.source(run.config, train=train) for split, train in bound.SPLITS.items()}
    for split, source in sources.items():
        if source.shape != run.shape:
            raise ValueError(f"the {split} split of {source.name} has images of {source.shape}, the run of {run.shape}")
    train = sources[TRAIN]
    usual = [bound.NAME, *(SMALL if small_image_scores.fits(train) else ())]
    names = tuple(dict.fromkeys(asked.metrics or usual))
    scores = [name for name in names if name not in LIKELIHOODS]
    if len(scores) < len(names):
        split = asked.split or TEST
        bound.check(sources[split], split, asked.n)
    if asked.samples and not scores:
        raise ValueError(
            f"--samples={asked.samples}: {names[0]} is not measured on samples; ask for --metrics=fid, kid, ..."
        )
    given = _given(asked, run.shape) if asked.samples else None
    inception = any(name in INCEPTION for name in scores)
    n = given.n if given else asked.n or (FULL if inception else min(sources[TEST].size, FEW))
    _check_scores(scores, asked, sources, n)
    extractor = network(scores, asked.inception)
    if given and len(scores) == len(names):
        ours, params, step = build.experiment(run.config, run.shape, run.classes), None, 0
    else:
        ours, params, step = load.load(folder, run, asked.step, asked.raw)
    return Plan(asked, names, Subject(ours, params, folder, step, asked.raw), sources, extractor, given, n)


def run(plan: Plan, progress: Progress) -> Iterator[Measured]:
    """Does it; yields each metric as it is measured and written."""
    asked, subject = plan.asked, plan.subject
    for name in [name for name in LIKELIHOODS if name in plan.names]:
        measure, lines = LIKELIHOODS[name]
        split = asked.split or TEST
        source = plan.sources[split]
        with progress(name, asked.n or source.size) as told:
            result, path = measure(
                subject, source, split, asked.n, asked.chain.grid, asked.batch_size, asked.chain.seed, told
            )
        yield Measured(result, path, lines(result))
    if set(plan.names) - LIKELIHOODS.keys():
        yield from _scores(plan, progress)


def _scores(plan: Plan, progress: Progress) -> Iterator[Measured]:
    asked, subject = plan.asked, plan.subject
    if plan.given:
        samples, facts = plan.given, _facts_of_given(plan)
    else:
        with progress("samples", plan.n) as told:
            batch = asked.batch_size or subject.ours.config.sample.batch_size
            samples = sample_sets.draw(subject, asked.chain, plan.n, batch, told)
        facts = sample_sets.facts(subject, asked.chain)
    given = [asked.samples.stem] if asked.samples else []
    train, test = plan.sources[TRAIN], plan.sources[TEST]

    def written(result: Result, lines: list[str], *more: str) -> Measured:
        names = [*given, *more, *protocol.departures(subject.ours, result.protocol)]
        return Measured(result, results.write(subject.folder, result, *names), lines)

    if plan.extractor:
        split = asked.split or TRAIN
        source = plan.sources[split]
        real = asked.reference_n or source.size
        found = in_inception(
            plan.names, plan.extractor, samples, source, split, real, asked.chain.seed, facts, subject.folder, progress
        )
        for result, lines in found:
            yield written(result, lines, *[f"of{real}"] * (real < source.size))
    for result, lines in in_small(plan.names, samples, train, test, facts):
        yield written(result, lines)


def _check_scores(names: list[str], asked: Asked, sources: dict[str, Source], n: int) -> None:
    source = sources[asked.split or TRAIN]
    if names and (asked.reference_n or 0) > source.size:
        raise ValueError(f"--reference_n={asked.reference_n}: {source.name} has {source.size} images in that split")
    for name in names:
        if name in SMALL:
            small_image_scores.check(name, sources[TRAIN], n)
        elif n < INCEPTION[name].least:
            raise ValueError(f"--metrics={name} needs at least {INCEPTION[name].least} samples, and there are {n}")


def _given(asked: Asked, shape: tuple[int, int, int]) -> SampleSet:
    assert asked.samples is not None
    found = sample_set.read(asked.samples, shape)
    if asked.n and asked.n > found.n:
        raise ValueError(f"--n={asked.n}: {asked.samples} has {found.n} images; give at most that many")
    return found.first(asked.n) if asked.n else found


def _facts_of_given(plan: Plan) -> dict[str, Any]:
    """The protocol of images from elsewhere: nobody here knows what drew them."""
    asked, ours = plan.asked, plan.subject.ours
    unknown = ("step", "weights", "sampler", "grid", "steps", "eta", "clip", "seed", "paper")
    known = protocol.of_run(ours, plan.subject.folder, 0)
    facts: dict[str, Any] = {key: value for key, value in known.items() if key not in unknown}
    return {**facts, **dict.fromkeys(unknown), "quantisation": "uint8 as given", "samples": str(asked.samples)}
