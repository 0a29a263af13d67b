"""What is found out about a network: samples of its chain, the exact bound, and the scores that its data allows."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion.core.types import Image, Keys, Labels
from diffusion.data.source import Source
from diffusion.evaluation import protocol
from diffusion.evaluation.bound import of
from diffusion.evaluation.budget import UNLIMITED, Budget
from diffusion.experiment.build import Experiment
from diffusion.metrics import likelihood, samples
from diffusion.metrics.likelihood import Likelihood
from diffusion.metrics.small_image_features import Score, score
from diffusion.metrics.small_image_scores import fits
from diffusion.metrics.svm_classifier import Judgement, judge
from diffusion.training.state import Params
from diffusion.workdir import results
from diffusion.workdir.results import Result, plus_minus


class Findings(NamedTuple):
    """The measurements on one set of parameters."""

    drawn: np.ndarray
    """The samples, uint8 [n, H, W, C]; none where the budget has none."""
    broken: int
    """Samples with a number that is not finite; their pixels mean nothing."""
    likelihood: Likelihood | None
    """The bound on held-out images, where config.eval.final asks for it."""
    score: Score | None
    """The distance of the samples from real images, for small labelled grey images."""
    judgement: Judgement | None
    """What the samples look like, likewise."""
    cuts: tuple[str, ...] = ()
    """What the budget left out, a line each."""

    def report(self) -> dict[str, float]:
        """The scalars, for a JSON file."""
        bound = self.likelihood.report() if self.likelihood else {}
        return {**bound, **(self.score.report() if self.score else {}), "samples": len(self.drawn)}

    def lines(self) -> list[str]:
        """The measurements for a console report."""
        lines = list(self.cuts)
        if found := self.likelihood:
            error = plus_minus(found.standard_error, ".3f")
            lines.append(
                f"bound       {found.total:.3f}{error} bits/dim on {found.images} held-out "
                f"images (L_T {found.prior:.5f}, sum of L_t-1 {found.steps:.3f}, L_0 {found.decoder:.3f})"
            )
        if self.broken:
            lines.append(f"WARNING     {self.broken} of {len(self.drawn)} samples hold numbers that are not finite")
        lines += self.judgement.lines() if self.judgement else []
        return lines + ([self.score.line()] if self.score else [])


def measure(ours: Experiment, source: Source, held_out: Source, params: Params, budget: Budget = UNLIMITED) -> Findings:
    """Samples from the config's chain, the exact bound and the scores of a set of parameters.

    Image i of the samples, and the noise of image i in the bound, follow from config.seed and i alone. Samples that are
    not finite are counted and not scored. Samples and bound are each cut down to the budget.
    """
    c = ours.config
    n = budget.images(c.sample.n, ours.sampled().T)
    drawn, broken = draw(ours, params, n) if n else (np.zeros((0, *ours.shape), np.uint8), 0)
    wanted = min(c.eval.n or held_out.size, held_out.size) if c.eval.final else 0
    images = budget.images(wanted, ours.sampled().T)
    judged = fits(source) and n > 1 and not broken
    return Findings(
        drawn,
        broken,
        bound(ours, held_out, params, images) if images else None,
        score(source, held_out, drawn) if judged else None,
        judge(source, held_out, drawn) if judged else None,
        (*_cut("samples of the chain", n, c.sample.n), *_cut("held-out images for the exact bound", images, wanted)),
    )


def draw(ours: Experiment, params: Params, n: int) -> tuple[np.ndarray, int]:
    """n samples of the config's chain, uint8 [n, H, W, C], and how many of them are not finite."""
    c = ours.config
    sampler, batch = ours.sampler(), ours.batch(min(c.sample.batch_size, n))

    def run(keys: Keys, labels: Labels) -> Image:
        return sampler(params, keys, labels).x_0

    pixels, finite = zip(*samples.checked(run, n, batch, c.seed, ours.classes), strict=True)
    return np.concatenate(pixels), int((~np.concatenate(finite)).sum())


def bound(ours: Experiment, held_out: Source, params: Params, images: int) -> Likelihood:
    """The exact bound over the first held-out images."""
    c = ours.config
    batch = ours.batch(min(c.eval.batch_size, images))
    return likelihood.likelihood(partial(ours.bound(), params), held_out, np.arange(images), batch, c.seed)


def write(found: Findings, ours: Experiment, held_out: Source, folder: Path, step: int) -> None:
    """Writes bound and score of a run's averaged weights as result files, with their protocol."""
    run, seed = protocol.of_run(ours, folder, step), ours.config.seed
    if found.likelihood:
        facts = {**run, **protocol.of_chain(ours), "split": "test", "images": found.likelihood.images, "seed": seed}
        result = of(found.likelihood, facts)
        results.write(folder, result, *protocol.departures(ours, facts, held_out.size))
    if found.score:
        s = found.score
        facts = {**run, **protocol.of_samples(ours, seed=seed), "split": "train", "images": s.samples}
        facts |= {"features": "classifier of the data", "reference": {"split": "train", "images": s.reference}}
        results.write(folder, Result(s.name, s.report(), {}, facts), *protocol.departures(ours, facts))


def _cut(what: str, n: int, wanted: int) -> list[str]:
    """What to say where the budget affords fewer than wanted."""
    if n == wanted:
        return []
    if n == 0:
        return [f"left out    {what}: more than config.eval.cpu_flop lets a CPU do (0: no limit)"]
    return [f"cut         {n} {what} instead of {wanted}: config.eval.cpu_flop limits what a CPU does (0: no limit)"]
