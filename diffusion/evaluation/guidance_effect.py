"""The effect of guidance: how often samples are of the class asked for, and how much those of a class differ."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import pdist

from diffusion.core.array_types import Array, Image, Keys, Labels
from diffusion.data.dataset_interface import Source
from diffusion.distributed import global_arrays, sharding
from diffusion.evaluation import measurement_protocol, sample_batches
from diffusion.evaluation.measurement_protocol import Chain, Subject
from diffusion.experiment.build import Experiment
from diffusion.experiment.build_guidance import UNGUIDED, Guide, Learnt
from diffusion.metrics import frechet
from diffusion.metrics.small_image_classifier import MOST, Classifier, classifier, features
from diffusion.training.state import Params
from diffusion.workdir.result_files import Result

GUIDANCE = "guidance"
"""Name of the result."""

MOST_OF_A_CLASS = 200
"""Images of a class that are compared with each other."""


def guides(experiment: Experiment, learnt: Learnt | None) -> Mapping[str, Callable[[Array], Guide]]:
    """Name -> (scale) -> a guide, of every way to guide a network: hidden labels, a classifier with labels and without.

    Raises ValueError where there is none.
    """
    classes, null = experiment.net.classes, experiment.net.null_label
    ways: dict[str, Callable[[Array], Guide]] = {}
    if null:
        ways["classifier-free"] = partial(Guide, classes)
    if learnt and classes:
        ways["classifier, with labels"] = partial(Guide, learnt.classes, learnt=learnt)
    if learnt and (null or not classes):
        unlabelled = classes if null else None
        ways["classifier, without labels"] = partial(Guide, learnt.classes, learnt=learnt, null=unlabelled)
    if not ways:
        raise ValueError(
            "nothing can guide this run: it was trained without net.label_dropout; give --classifier, the folder of a "
            "run of scripts/train_classifier.py"
        )
    return ways


def drawer(
    subject: Subject, make: Callable[[Array], Guide], batch: int, seed: int
) -> Callable[[float, int], np.ndarray]:
    """(scale, n) -> n samples under a guide, uint8 [n, H, W, C], by one compiled program for all scales.

    Image i is of class i mod classes, and starts from the same noise at every scale.
    """
    experiment = subject.experiment
    classes = experiment._replace(guide=make(jnp.float32(0))).classes

    def run(weights: tuple[Params, Array], keys: Keys, labels: Labels) -> Image:
        params, scale = weights
        return experiment._replace(guide=make(scale)).sampler().jitted(params, keys, labels).x_0

    jitted = global_arrays.ByRows(run, sharding.split_axis(experiment.mesh))

    def draw(scale: float, n: int) -> np.ndarray:
        weights = (subject.params, jnp.float32(scale))
        size = experiment.batch(min(batch, n))
        return sample_batches.draw(lambda *rows: jitted(weights, *rows), n, size, seed, classes)

    return draw


def spread(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean Euclidean distance of two different vectors [n, D] of a class, averaged over classes with two or more."""
    classes = (features[labels == label][:MOST_OF_A_CLASS] for label in np.unique(labels))
    return float(np.mean([pdist(x).mean() for x in classes if len(x) > 1]))


def effect(model: Classifier, real: Source, pixels: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of samples that were drawn with these labels.

    accuracy is the share that a classifier of clean images puts in the class asked for, diversity is their `spread`
    over that of real training images, distance their Fréchet distance from these in the classifier's features.
    """
    images, real_labels = features(model, real, MOST), real.read(np.arange(min(real.size, MOST)))[1]
    drawn = model.features(pixels)
    return {
        "accuracy": float((model.classes(pixels) == labels).mean()),
        "diversity": spread(drawn, labels) / spread(images, real_labels),
        "distance": frechet.distance(frechet.moments(drawn), frechet.moments(images)),
    }


def measure(
    subject: Subject,
    learnt: Learnt | None,
    scales: Sequence[float],
    train: Source,
    held_out: Source,
    *,
    n: int,
    batch: int,
    seed: int = 0,
    report: Callable[[str], None],
) -> Result:
    """The effect of every guide at every scale on n samples of the config's chain; `report` prints a row of the table.

    Series are named "classifier-free, accuracy" and so on. Raises ValueError where the data have no labels, and where
    nothing can guide the run.
    """
    ways = guides(subject.experiment, learnt)
    model = classifier(train)
    labels = sample_batches.labels(np.arange(n), train.classes)
    series: dict[str, list[float]] = {"scale": [float(scale) for scale in scales]}
    report(f"{'guidance':26} {'scale':>5}  {'accuracy':>8}  {'diversity':>9}  {'distance':>9}")
    for name, make in ways.items():
        draw = drawer(subject, make, batch, seed)
        for scale in scales:
            found = effect(model, train, draw(scale, n), labels)
            report("{:26} {:5g}  {:8.1%}  {:9.3f}  {:9.2f}".format(name, scale, *found.values()))
            for field, value in found.items():
                series.setdefault(f"{name}, {field}", []).append(value)
    accuracy = model.accuracy(held_out)
    report(f"a classifier of clean images is right on {accuracy:.1%} of held-out real images")
    unguided = subject.experiment._replace(guide=UNGUIDED)
    facts = (
        measurement_protocol.of_run(subject)
        | measurement_protocol.of_samples(unguided, Chain(seed=seed))
        | {"images": n}
    )
    facts |= {"classifier": measurement_protocol.digest(learnt.params)[:12]} if learnt else {}
    return Result(GUIDANCE, {"held_out_accuracy": accuracy}, series, {**facts, "features": model.digest()[:12]})
