"""The final evaluation of a run: samples from its chain, the exact bound on held-out images, scores of the samples."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffusion.data.dataset_interface import Source
from diffusion.evaluation import (
    draw_and_store_sample_sets,
    measure_likelihood,
    measurement_protocol,
    sample_batches,
    sample_quality,
)
from diffusion.evaluation.fewer_images_on_cpu import UNLIMITED, Budget, chain_calls
from diffusion.evaluation.measurement_protocol import FULL, Chain, Subject
from diffusion.evaluation.variational_bound import BOUND
from diffusion.metrics.first_images_of_split import split
from diffusion.metrics.scores_without_inception import LABELLED, fits
from diffusion.workdir import result_files
from diffusion.workdir.result_files import Result, plus_minus


class Summary(NamedTuple):
    """The measurements on one set of parameters."""

    samples: np.ndarray
    """uint8 [n, H, W, C]; none where the budget has none."""
    broken: int
    """Samples with a number that is not finite; their pixels mean nothing."""
    bound: Result | None
    """On held-out images, where config.eval.final asks for it."""
    scores: tuple[tuple[Result, list[str]], ...]
    """Of the samples, for small labelled grey images, with their lines: the first is the distance from real images."""
    cuts: tuple[str, ...] = ()
    """What the budget left out, a line each."""

    @property
    def distance(self) -> Result | None:
        """The Fréchet distance of the samples from the training images, where it is measured."""
        return self.scores[0][0] if self.scores else None

    def report(self) -> dict[str, float]:
        """The scalars, for a JSON file."""
        bound, distance = (result.values if result else {} for result in (self.bound, self.distance))
        return {**bound, **distance, "samples": len(self.samples)}

    def lines(self) -> list[str]:
        """The measurements for a console report."""
        lines = list(self.cuts)
        if self.bound:
            v = self.bound.values
            error = plus_minus(v["standard_error"], ".3f")
            lines.append(
                f"bound       {v['bits_per_dim']:.3f}{error} bits/dim on {v['images']} "
                f"held-out images (L_T {v['L_T']:.5f}, sum of L_t-1 {v['L_steps']:.3f}, L_0 {v['L_0']:.3f})"
            )
        if self.broken:
            lines.append(f"WARNING     {self.broken} of {len(self.samples)} samples hold numbers that are not finite")
        return lines + [line for _, own in reversed(self.scores) for line in own]


def measure(
    subject: Subject,
    train: Source,
    held_out: Source,
    budget: Budget = UNLIMITED,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> Summary:
    """Samples from the config's chain, the exact bound and the scores of a set of parameters; nothing is written.

    Image i of the samples, and the noise of image i in the bound, follow from config.seed and i alone. Samples that are
    not finite are counted and not scored. Samples and bound are each cut down to the budget. `progress` is called after
    each batch, first with the number of samples and then with that of held-out images.
    """
    experiment, c = subject.experiment, subject.experiment.config
    n = budget.images(c.sample.n, chain_calls(experiment))
    chain = Chain(seed=c.seed)
    parts = [(np.zeros((0, *experiment.shape), np.uint8), np.ones(0, bool))]
    for part in draw_and_store_sample_sets.batches(subject, chain, n, c.sample.batch_size) if n else ():
        parts.append(part)
        progress(sum(len(pixels) for pixels, _ in parts))
    pixels, finite = sample_batches.joined(parts)
    broken = int((~finite).sum())
    wanted = min(c.eval.n or held_out.size, held_out.size) if c.eval.final else 0
    images = budget.images(wanted, experiment.sampled().T)
    bound = None
    if images:
        first = split("test", held_out, images)
        bound, _ = measure_likelihood.measure(BOUND, subject, first, seed=c.seed, progress=progress, resumable=False)
    scores = ()
    if fits(train) and n > 1 and not broken:
        facts = draw_and_store_sample_sets.facts(subject, chain)
        scores = tuple(sample_quality.score_small_images(LABELLED, pixels, train, held_out, facts))
    return Summary(
        samples=pixels,
        broken=broken,
        bound=bound,
        scores=scores,
        cuts=(
            *_cut("samples of the chain", n, c.sample.n),
            *_cut("held-out images for the exact bound", images, wanted),
        ),
    )


def write(summary: Summary, subject: Subject, held_out: Source) -> None:
    """Writes the results of a summary as files of the run, as scripts/evaluate.py would."""
    sizes = [(summary.bound, held_out.size)] if summary.bound else []
    for result, usual_images in [*sizes, *((score, FULL) for score, _ in summary.scores)]:
        suffixes = measurement_protocol.departures(subject.experiment, result.protocol, usual_images)
        result_files.write(subject.folder, result, *suffixes)


def _cut(what: str, n: int, wanted: int) -> list[str]:
    """The line to print where the budget allows fewer than wanted."""
    line = f"cut         {n} {what} instead of {wanted}: config.eval.cpu_flop limits what a CPU does (0: no limit)"
    return [line] if n < wanted else []
