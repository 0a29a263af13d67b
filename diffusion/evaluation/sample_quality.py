"""Scores of a sample set: the metrics, what each needs, and the results with their protocol.

One pass over the images gives the features of all metrics; statistics of the reference images are stored in the user's
cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffusion.config.misspelt_names import suggestion
from diffusion.convert.inception_weights import NETWORK
from diffusion.data.dataset_interface import Source, in_memory
from diffusion.evaluation.measurement_protocol import FULL
from diffusion.metrics import frechet, inception_features, inception_score, kernel_distance
from diffusion.metrics.feature_statistics import Features, Layers, of_real, one_pass
from diffusion.metrics.first_images_of_split import Split, split
from diffusion.metrics.inception_features import Extractor
from diffusion.metrics.precision_recall import precision_recall
from diffusion.metrics.scores_without_inception import SMALL, Score
from diffusion.runtime.progress_bar import Counting
from diffusion.workdir.result_files import Result

RESIZE = "bilinear to 299x299 as in the 2015 graph, (x - 128) / 128"
SPLITS, SUBSETS, SUBSET, NEIGHBOURS = 10, 100, 1000, 3

BATCH = {"cpu": 16}
"""Images given to Inception at a time by platform, where that is not 64: on CPUs more would cost memory alone."""


class Compared(NamedTuple):
    """Inception's features of samples and of real images."""

    name: str
    """Of the result."""
    layer: str
    samples: Features
    real: Features
    n: int
    """Samples."""
    n_real: int
    seed: int
    """Of the subsets of KID."""


class Metric(NamedTuple):
    """A metric in Inception's features."""

    layer: str
    vectors: bool
    """Whether it compares vectors with vectors; else mean and covariance are enough."""
    compares: bool
    """Whether it needs real images."""
    measure: Callable[[Compared], Score]
    quantity: str
    """The first part of its name in the features of other networks than the published one."""
    least: int = 2
    """Images that it needs on either side."""


def _frechet(m: Compared) -> Score:
    value = frechet.distance(m.samples.moments[m.layer], m.real.moments[m.layer])
    few = m.n < FULL
    notes = [f"of {m.n} samples, not 50,000: biased upwards, comparable only with others of {m.n}"] * few
    notes += [f"{m.n_real} reference images, fewer than 50,000"] * (m.n_real < FULL)
    key, title = {"fid": (f"fid_{m.n}", f"FID-{m.n}") if few else ("fid", "FID")}.get(m.name, (m.name, m.name))
    line = f"{title:16} {value:.4f}" + (f"  ({'; '.join(notes)})" if notes else "")
    return Score(m.name, {key: value}, [line], {"layer": m.layer})


def _inception_score(m: Compared) -> Score:
    logits = m.samples.vectors[m.layer]
    mean, std = inception_score.inception_score(logits, SPLITS)
    whole, _ = inception_score.inception_score(logits, 1)
    line = f"{m.name:16} {mean:.4f} +- {std:.4f} over {SPLITS} splits, {whole:.4f} in one"
    return Score(m.name, {"mean": mean, "std": std, "mean_1": whole}, [line], {"layer": m.layer, "splits": SPLITS})


def _kid(m: Compared) -> Score:
    a, b = m.samples.vectors[m.layer], m.real.vectors[m.layer]
    size = min(SUBSET, len(a), len(b))
    mean, std = kernel_distance.kid(a, b, SUBSETS, size, m.seed)
    facts = {"layer": m.layer, "subsets": SUBSETS, "subset_size": size, "subset_seed": m.seed}
    line = f"{m.name:16} {mean:.6f}, {std:.6f} from subset to subset ({SUBSETS} of {size})"
    return Score(m.name, {"mean": mean, "std": std}, [line], facts)


def _precision_recall(m: Compared) -> Score:
    precision, recall = precision_recall(m.real.vectors[m.layer], m.samples.vectors[m.layer], NEIGHBOURS)
    unequal = m.n != m.n_real
    note = f"; {m.n} samples and {m.n_real} real images: comparable only with sets of these sizes" if unequal else ""
    line = f"{m.name:16} precision {precision:.4f}, recall {recall:.4f} (k = {NEIGHBOURS}, in pool_3{note})"
    return Score(m.name, {"precision": precision, "recall": recall}, [line], {"layer": m.layer, "k": NEIGHBOURS})


INCEPTION = {
    "inception_score": Metric(
        "logits_unbiased", vectors=True, compares=False, measure=_inception_score, quantity="score", least=SPLITS
    ),
    "fid": Metric("2048", vectors=False, compares=True, measure=_frechet, quantity="fd"),
    "fd_768": Metric("768", vectors=False, compares=True, measure=_frechet, quantity="fd_768"),
    "fd_1280": Metric("1280", vectors=False, compares=True, measure=_frechet, quantity="fd_1280"),
    "kid": Metric("2048", vectors=True, compares=True, measure=_kid, quantity="kd"),
    "precision_recall": Metric(
        "2048",
        vectors=True,
        compares=True,
        measure=_precision_recall,
        quantity="precision_recall",
        least=NEIGHBOURS + 1,
    ),
}
"""In the order in which they are measured: what needs the logits first, which are then dropped."""


def result_name(metric: str, network: str) -> str:
    """The name of a metric's result in the features of a network.

    FID, KID and inception score are defined by the published weights, in float32. With other weights, or in another
    type, the name is the quantity and the network, such as fd_inception-1a2b3c4d: comparable for that network alone.
    """
    return metric if network == NETWORK else f"{INCEPTION[metric].quantity}_{network}"


def check_names(names: Sequence[str], others: Sequence[str]) -> None:
    """Raises ValueError for a metric that is neither in INCEPTION or SMALL nor among `others`."""
    legal = [*others, *INCEPTION, *SMALL]
    for name in names:
        if name not in legal:
            raise ValueError(f"--metrics={name}: no such metric; {suggestion(name, legal)}")


def network(names: Sequence[str], weights: Path | None) -> Extractor | None:
    """The Inception network for those metrics that need it. Raises ValueError where its weights are not available."""
    layers = list(dict.fromkeys(INCEPTION[name].layer for name in names if name in INCEPTION))
    if not layers:
        return None
    return inception_features.inception(weights, batch_size=BATCH.get(jax.default_backend(), 64), layers=layers)


def score_with_inception(
    names: Sequence[str],
    extractor: Extractor,
    samples: np.ndarray,
    real: Split,
    *,
    seed: int,
    facts: Mapping[str, Any],
    parts: Path,
    progress: Counting,
) -> Iterator[tuple[Result, list[str]]]:
    """The results of the Inception metrics among `names`, with their lines; `facts` is the protocol of the samples.

    Host memory beside the samples: n D float32 of a set for the Inception score, of both for KID and precision and
    recall, else one chunk and D^2. Features are stored in the folder `parts` until a pass is done.
    """
    n = len(samples)
    chosen = {name: metric for name, metric in INCEPTION.items() if name in names}
    reference = _layers([metric for metric in chosen.values() if metric.compares])
    of_reference = of_real(extractor, real, RESIZE, reference, parts, progress)
    with progress("features", n) as count:
        images = split("samples", in_memory("samples", samples))
        of_samples = one_pass(extractor, images, _layers(list(chosen.values())), parts, count)
    network = f"{extractor.name} {extractor.weights}"
    own = {"split": real.name, "images": n, "resize": RESIZE, "features": network}
    for name, metric in chosen.items():
        named = result_name(name, extractor.name)
        score = metric.measure(Compared(named, metric.layer, of_samples, of_reference, n, real.n, seed))
        stamp = {**facts, **own, "reference": real.facts if metric.compares else None, **score.facts}
        yield Result(score.name, score.values, {}, stamp), score.lines
        if not metric.compares:
            of_samples.vectors.pop(metric.layer)


def score_small_images(
    names: Sequence[str], samples: np.ndarray, train: Source, held_out: Source, facts: Mapping[str, Any]
) -> Iterator[tuple[Result, list[str]]]:
    """The results of the metrics for small data among `names`, with their lines."""
    for name in (name for name in SMALL if name in names):
        score = SMALL[name](samples, train, held_out)
        stamp = {**facts, "split": "train", "images": len(samples), **score.facts}
        yield Result(score.name, score.values, score.series, stamp), score.lines


def _layers(metrics: Sequence[Metric]) -> Layers:
    moments, vectors = ({m.layer for m in metrics if m.vectors == needed} for needed in (False, True))
    return Layers(moments, vectors)
