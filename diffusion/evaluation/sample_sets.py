"""Sample sets of a run, drawn in parts that stay: a set is continued where it stopped, and never drawn twice."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import diffusion
from diffusion.config.config import config_hash
from diffusion.config.validation import validate
from diffusion.core import respacing
from diffusion.core.types import Image, Keys, Labels
from diffusion.evaluation import protocol
from diffusion.evaluation.protocol import Subject
from diffusion.experiment.build import Experiment
from diffusion.experiment.registry import SAMPLERS
from diffusion.metrics import sample_set, samples
from diffusion.metrics.partial_results import digest
from diffusion.metrics.sample_set import Part, SampleSet
from diffusion.workdir.run import Run

STOCHASTIC = frozenset({"ddim"})
"""Samplers that read eta."""


class Chain(NamedTuple):
    """How images are drawn; what is None is the config's."""

    sampler: str | None = None
    grid: str | None = None
    eta: float | None = None
    seed: int = 0
    truncate: bool = False
    """Whether levels are cut instead of rounded."""
    labels: tuple[int, ...] = ()
    """Labels of the images, in turn; all classes where it is empty."""


def guided(
    run: Run,
    scale: float | None = None,
    classifier: str | None = None,
    first: float | None = None,
    last: float | None = None,
) -> Run:
    """A run with other guidance of its samples; what is None stays. Raises ValueError where they do not go together."""
    given = {"guidance": scale, "classifier": classifier, "guidance_from": first, "guidance_to": last}
    changes = {f"sample.{name}": value for name, value in given.items() if value is not None}
    if not changes:
        return run
    config = run.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    validate(config, size=run.shape[0])
    return run._replace(config=config)


def check_labels(ours: Experiment, chain: Chain) -> None:
    """Raises ValueError where images cannot be drawn with the labels of a chain."""
    if not chain.labels:
        return
    if not ours.classes:
        raise ValueError(
            f"--label={chain.labels[0]}: this run draws without labels, its network knows none; use one trained with "
            "net.class_conditional = true, or guide it with --classifier and --guidance"
        )
    if wrong := [label for label in chain.labels if not 0 <= label < ours.classes]:
        raise ValueError(f"--label={wrong[0]}: the labels of this run are 0 to {ours.classes - 1}")


def check(run: Run, chain: Chain) -> None:
    """Raises ValueError where a run cannot draw by a chain."""
    config = run.config
    name = chain.sampler or config.sample.sampler
    if name not in SAMPLERS:
        raise ValueError(f"--sampler={name} is not one of {', '.join(SAMPLERS)}")
    if chain.eta is not None and name not in STOCHASTIC:
        raise ValueError(f"--eta has no effect on the sampler {name}; it belongs to --sampler=ddim")
    text = config.sample.grid if chain.grid is None else chain.grid
    respacing.parse(text)(config.diffusion.T)


def facts(subject: Subject, chain: Chain) -> dict[str, Any]:
    """The protocol of the images of a chain."""
    run = protocol.of_run(subject.ours, subject.folder, subject.step, subject.raw)
    return {**run, **protocol.of_samples(subject.ours, *chain)}


def stem(subject: Subject, chain: Chain) -> str:
    """What a file of such images is called, but for their number: ancestral_1000_step_0001000_seed_0."""
    ours = subject.ours
    found = protocol.of_samples(ours, *chain)
    noise = [f"eta_{found['eta']:g}"] if found["eta"] else []
    grid = _grid(ours, chain) or str(ours.config.diffusion.T)
    told = [f"{key}_{value}".replace("..", "-") for key, value in protocol.of_guidance(ours).items()]
    told += [f"label_{_listed(chain)}"] * bool(chain.labels)
    words = [found["sampler"], *noise, grid, *told, f"step_{subject.step:07d}", f"seed_{chain.seed}"]
    return "_".join([*words, *["truncated"] * chain.truncate, *["raw"] * subject.raw])


def place(subject: Subject, chain: Chain) -> Path:
    """The folder of a set's parts, named by all that its images depend on; their number is not among it."""
    ours = subject.ours
    found = protocol.of_samples(ours, *chain)
    key = {
        "config_hash": config_hash(ours.config),
        "parameters": protocol.digest(subject.params),
        "sampler": found["sampler"],
        "visited": respacing.parse(_grid(ours, chain))(ours.config.diffusion.T).tolist(),
        "eta": found["eta"],
        **{name: found[name] for name in ("corrector",) if name in found},
        "clip": found["clip"],
        "seed": chain.seed,
        "truncate": chain.truncate,
        "classes": ours.classes,
        "labels": chain.labels,
        "guidance": protocol.of_guidance(ours),
        "version": diffusion.__version__,
    }
    return subject.folder / "samples" / "parts" / f"{stem(subject, chain)}_{digest(key)[:12]}"


def draw(
    subject: Subject,
    chain: Chain,
    n: int,
    batch_size: int,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> SampleSet:
    """The first n images of a chain: those that lie there from before, and the others, drawn over all devices.

    Image i depends on the seed and i alone. Parts are whole batches, so an interrupted set becomes, with the same batch
    size, the same bytes as one drawn in one go. `progress` is told how many are there.
    """
    ours, folder = subject.ours, place(subject, chain)
    parts = sample_set.parts(folder, ours.shape)
    done = parts[-1].stop if parts else 0
    progress(min(done, n))
    if done < n:
        sampler = ours.sampler(chain.sampler or "", respacing.parse(_grid(ours, chain)), chain.eta)

        def images(keys: Keys, labels: Labels) -> Image:
            return sampler(subject.params, keys, labels).x_0

        batch = ours.batch(min(batch_size, n))
        drawn = samples.checked(images, n, batch, chain.seed, chain.labels or ours.classes, done, chain.truncate)
        parts += _stored(folder, done, drawn, sample_set.at_once(ours.shape), progress)
    return sample_set.of_parts(parts, ours.shape, n)


def _stored(folder: Path, start: int, drawn: Any, most: int, progress: Callable[[int], object]) -> list[Part]:
    """Writes batches as parts, each when it is large enough or SECONDS old, and the rest whatever happens."""
    parts: list[Part] = []
    held: list[tuple[np.ndarray, np.ndarray]] = []
    begun = time.monotonic()

    def write() -> None:
        if held:
            pixels, finite = (np.concatenate(column) for column in zip(*held, strict=True))
            parts.append(sample_set.write_part(folder, parts[-1].stop if parts else start, pixels, finite))
            held.clear()

    done = start
    try:
        for batch in drawn:
            held.append(batch)
            done += len(batch[0])
            progress(done)
            if sum(len(pixels) for pixels, _ in held) >= most or time.monotonic() - begun > sample_set.SECONDS:
                write()
                begun = time.monotonic()
    finally:
        write()
    return parts


def _listed(chain: Chain) -> str:
    return "-".join(map(str, chain.labels))


def _grid(ours: Experiment, chain: Chain) -> str:
    return ours.config.sample.grid if chain.grid is None else chain.grid
