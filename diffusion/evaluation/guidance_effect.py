"""What guidance does to samples: how often they are of the class asked for, and how much those of a class differ."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffusion.core.types import Array, Image, Keys, Labels
from diffusion.data.source import Source
from diffusion.distributed import hosts, sharding
from diffusion.evaluation import protocol
from diffusion.evaluation.protocol import Subject
from diffusion.experiment import guidance
from diffusion.experiment.build import Experiment
from diffusion.experiment.guidance import Guide, Learnt
from diffusion.experiment.registry import SAMPLERS
from diffusion.metrics import frechet, samples, small_image_features
from diffusion.metrics.small_image_features import CHUNK, MOST, Classifier
from diffusion.sampling import loop
from diffusion.training.state import Params
from diffusion.workdir.results import Result

Guides = Mapping[str, Callable[[Array], Guide]]
"""name -> (scale) -> a guide of that scale."""

GUIDANCE = "guidance"
"""Name of the result."""

MOST_OF_A_CLASS = 200
"""Images of a class that are compared with each other."""


class Effect(NamedTuple):
    """Samples under one scale of guidance."""

    accuracy: float
    """Share that a classifier of clean images takes for the class asked for."""
    diversity: float
    """`spread` of the samples over that of real training images: 1 if those of a class differ as real ones do."""
    distance: float
    """Fréchet distance from the training images, in the features of that classifier."""


def guides(ours: Experiment, learnt: Learnt | None) -> Guides:
    """Every way to guide a network: by its hidden labels, by a classifier with labels told and without."""
    known, null = ours.net.classes, ours.net.null_label
    found: dict[str, Callable[[Array], Guide]] = {}
    if null:
        found["classifier-free"] = lambda w: guidance.by_labels(known, w)
    if learnt and known:
        found["classifier, labels told"] = lambda w: guidance.by_classifier(learnt, w)
    if learnt and (null or not known):
        found["classifier, no labels told"] = lambda w: guidance.by_classifier(learnt, w, null=known if null else None)
    if not found:
        raise ValueError(
            "nothing can guide this run: it was trained without net.label_dropout; give --classifier, the folder of a "
            "run of scripts/train_classifier.py"
        )
    return found


def drawer(
    subject: Subject, make: Callable[[Array], Guide], batch: int, seed: int
) -> Callable[[float, int], np.ndarray]:
    """(scale, n) -> n samples under a guide, uint8 [n, H, W, C], by one compiled program for all scales.

    Image i is of class i mod classes, and starts from the same noise at every scale.
    """
    ours, c = subject.ours, subject.ours.config.sample
    process = ours.sampled()
    sampler = SAMPLERS[c.sampler](process, ours.variance, c)
    classes = max(ours.net.classes, make(jnp.float32(0)).classes)

    def run(given: tuple[Params, Array], keys: Keys, labels: Labels) -> Image:
        params, scale = given
        denoise = ours._replace(guide=make(scale)).denoise(params, labels, guided=True)
        return loop.sample(keys, process, sampler, denoise, loop.prior_sample(keys, process, ours.shape)).x_0

    jitted = hosts.by_rows(run, sharding.split_axis(ours.mesh))

    def drawn(scale: float, n: int) -> np.ndarray:
        given = (subject.params, jnp.float32(scale))
        parts = samples.draw(lambda *rows: jitted(given, *rows), n, ours.batch(min(batch, n)), seed, classes)
        return np.concatenate(list(parts))

    return drawn


def spread(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean Euclidean distance between two different vectors of one class, averaged over the classes with two or more.

    features [n, D]; |x - y|^2 is summed from differences, a class at a time.
    """
    found = []
    for label in np.unique(labels):
        x = features[labels == label][:MOST_OF_A_CLASS]
        if len(x) > 1:
            distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=-1))
            found.append(distances.sum() / (len(x) * (len(x) - 1)))
    return float(np.mean(found))


def effect(model: Classifier, real: Source, pixels: np.ndarray, labels: np.ndarray) -> Effect:
    """What a classifier of the clean data says of samples that were asked to be of these labels."""
    index = np.arange(min(real.size, MOST))
    images, known = real.read(index)
    features = np.concatenate([model.features(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)])
    ours = model.features(pixels)
    return Effect(
        float((model.classes(pixels) == labels).mean()),
        spread(ours, labels) / spread(features, known),
        frechet.distance(frechet.moments(ours), frechet.moments(features)),
    )


def measure(
    subject: Subject,
    found: Guides,
    scales: Sequence[float],
    sources: tuple[Source, Source],
    n: int,
    batch: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> Result:
    """The effect of every guide at every scale on the config's chain; `sources` are training and held-out images.

    Series are named "classifier-free, accuracy" and so on. Raises ValueError where the data have no labels.
    """
    train, held_out = sources
    model = small_image_features.classifier(train)
    series: dict[str, list[float]] = {"scale": [float(scale) for scale in scales]}
    for name, make in found.items():
        drawn = drawer(subject, make, batch, seed)
        effects = []
        for scale in scales:
            pixels = drawn(scale, n)
            effects.append(effect(model, train, pixels, samples.labels(np.arange(n), train.classes)))
            e = effects[-1]
            say(f"{name:26} {scale:5g}  {e.accuracy:8.1%}  {e.diversity:9.3f}  {e.distance:9.2f}")
        for field, values in zip(Effect._fields, zip(*effects, strict=True), strict=True):
            series[f"{name}, {field}"] = list(values)
    images, known = held_out.read(np.arange(min(held_out.size, MOST)))
    values = {"held_out_accuracy": float((model.classes(images) == known).mean())}
    ours = subject.ours
    facts = protocol.of_run(ours, subject.folder, subject.step, subject.raw)
    facts |= protocol.of_samples(ours._replace(guide=guidance.UNGUIDED), seed=seed) | {"images": n}
    return Result(GUIDANCE, values, series, {**facts, "features": model.digest()[:12]})
