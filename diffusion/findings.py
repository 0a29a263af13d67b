"""What is found out about a network: samples of its chain, the exact bound, and the scores that its data allows."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffusion.build import Experiment
from diffusion.data.source import Source
from diffusion.evaluation import likelihood, samples
from diffusion.evaluation.classes import Judgement, judge
from diffusion.evaluation.likelihood import Likelihood
from diffusion.evaluation.small_features import Score, score
from diffusion.training.state import Params
from diffusion.types import Image, Keys, Labels

SMALL_SIDE = 32
"""Labelled grey images up to this size are judged by classifiers of their own data."""


class Findings(NamedTuple):
    """The measurements on one set of parameters."""

    drawn: np.ndarray
    """The samples, uint8 [n, H, W, C]."""
    broken: int
    """Samples with a number that is not finite; their pixels mean nothing."""
    likelihood: Likelihood | None
    """The bound on held-out images, where config.eval.final asks for it."""
    score: Score | None
    """The distance of the samples from real images, for small labelled grey images."""
    judgement: Judgement | None
    """What the samples look like, likewise."""

    def report(self) -> dict[str, float]:
        """The scalars, for a JSON file."""
        bound = self.likelihood.report() if self.likelihood else {}
        return {**bound, **(self.score.report() if self.score else {}), "samples": len(self.drawn)}

    def lines(self) -> list[str]:
        """The measurements for a console report."""
        lines = []
        if found := self.likelihood:
            lines.append(
                f"bound       {found.total:.3f} +- {found.standard_error:.3f} bits/dim on {found.images} held-out "
                f"images (L_T {found.prior:.5f}, sum of L_t-1 {found.steps:.3f}, L_0 {found.decoder:.3f})"
            )
        if self.broken:
            lines.append(f"WARNING     {self.broken} of {len(self.drawn)} samples hold numbers that are not finite")
        lines += self.judgement.lines() if self.judgement else []
        return lines + ([self.score.line()] if self.score else [])


def measure(ours: Experiment, source: Source, held_out: Source, params: Params) -> Findings:
    """Samples from the config's chain, the exact bound and the scores of a set of parameters.

    Image i of the samples, and the noise of image i in the bound, follow from config.seed and i alone. Samples that are
    not finite are counted and not scored.
    """
    c = ours.config
    sampler, batch = ours.sampler(), ours.batch(min(c.sample.batch_size, c.sample.n))
    finite: list[np.ndarray] = []

    def run(keys: Keys, labels: Labels) -> Image:
        x_0 = sampler(params, keys, labels).x_0
        finite.append(np.asarray(jnp.isfinite(x_0).all(axis=(1, 2, 3))))
        return x_0

    drawn = np.concatenate(list(samples.draw(run, c.sample.n, batch, c.seed, ours.net.classes)))
    broken = int((~np.concatenate(finite)[: len(drawn)]).sum())
    small = source.classes > 0 and source.shape[-1] == 1 and max(source.shape[:2]) <= SMALL_SIDE
    judged = small and not broken
    return Findings(
        drawn,
        broken,
        bound(ours, held_out, params) if c.eval.final else None,
        score(source, held_out, drawn) if judged and len(drawn) > 1 else None,
        judge(source, held_out, drawn) if judged else None,
    )


def bound(ours: Experiment, held_out: Source, params: Params) -> Likelihood:
    """The exact bound over the config's number of held-out images."""
    c = ours.config
    index = np.arange(min(c.eval.n or held_out.size, held_out.size))
    batch = ours.batch(min(c.eval.batch_size, len(index)))
    return likelihood.likelihood(partial(ours.bound(), params), held_out, index, batch, c.seed)
