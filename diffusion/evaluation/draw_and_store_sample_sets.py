"""Sample sets of a run, drawn in parts that stay on disk: an interrupted set resumes, and none is drawn twice."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffusion.config.config_dict import config_hash
from diffusion.config.validation import validate
from diffusion.core import respacing
from diffusion.core.array_types import Image, Keys, Labels
from diffusion.evaluation import measurement_protocol, sample_batches
from diffusion.evaluation.measurement_protocol import STOCHASTIC, Chain, Subject
from diffusion.evaluation.sample_batches import Batch, joined
from diffusion.experiment.build import Experiment, levels
from diffusion.experiment.registry_of_samplers_and_schedules import SAMPLERS
from diffusion.metrics.cache_on_disk import digest
from diffusion.runtime import npz_reader
from diffusion.runtime.atomic_files import write_npz
from diffusion.runtime.file_lock import exclusive
from diffusion.runtime.paths import cache_folder, writable
from diffusion.workdir.run_config import Run

SECONDS = 30.0
"""Time between two parts: what an interrupted process draws again, at most, beside its current batch."""


UNGUIDED = {"sample.guidance": 0.0, "sample.classifier": "", "sample.guidance_from": 0.0, "sample.guidance_to": 1.0}
"""Keys of the config that guide its samples, and their values where nothing does."""


def guided(run: Run, changes: Mapping[str, Any]) -> Run:
    """A run with other guidance of its samples: keys of the config and their values.

    Raises ValueError where the values do not go together, or have no effect without a scale.
    """
    if not changes:
        return run
    config = run.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    idle = [key for key, value in changes.items() if value != UNGUIDED[key]]
    if idle and not config.sample.guidance:
        flag = idle[0].removeprefix("sample.")
        raise ValueError(f"--{flag} has no effect without guidance: add --guidance=1, or another scale")
    validate(config, size=run.shape[0])
    return run._replace(config=config)


def check_labels(experiment: Experiment, chain: Chain) -> None:
    """Raises ValueError where images cannot be drawn with the labels of a chain."""
    if not chain.labels:
        return
    if not experiment.classes:
        raise ValueError(
            f"--label={chain.labels[0]}: this run draws without labels, as its network takes none; use one "
            "trained with net.class_conditional = true, or guide it with --classifier and --guidance"
        )
    if wrong := [label for label in chain.labels if not 0 <= label < experiment.classes]:
        raise ValueError(f"--label={wrong[0]}: the labels of this run are 0 to {experiment.classes - 1}")


def check(run: Run, chain: Chain) -> None:
    """Raises ValueError where a run cannot draw by a chain."""
    config = run.config.copy_and_resolve_references()
    name = chain.sampler or config.sample.sampler
    if name not in SAMPLERS:
        raise ValueError(f"--sampler={name} is not one of {', '.join(SAMPLERS)}")
    if chain.eta is not None and name not in STOCHASTIC:
        raise ValueError(f"--eta has no effect on the sampler {name}; it belongs to --sampler=ddim")
    if chain.sampler:
        config.sample.sampler = name
        validate(config, size=run.shape[0])
    text = config.sample.grid if chain.grid is None else chain.grid
    levels(config, respacing.parse(text))


def facts(subject: Subject, chain: Chain) -> dict[str, Any]:
    """The protocol of the images of a chain."""
    return {**measurement_protocol.of_run(subject), **measurement_protocol.of_samples(subject.experiment, chain)}


def stem(subject: Subject, chain: Chain) -> str:
    """The name of a file of such images, without their number: ancestral_1000_step_0001000_seed_0."""
    experiment = subject.experiment
    drawn = measurement_protocol.of_samples(experiment, chain)
    eta = [f"eta_{drawn['eta']:g}"] if drawn["eta"] else []
    grid = measurement_protocol.grid_of(experiment, chain.grid) or str(experiment.config.diffusion.T)
    chosen = [
        f"{key}_{value}".replace("..", "-") for key, value in measurement_protocol.of_guidance(experiment).items()
    ]
    chosen += [f"label_{'-'.join(map(str, chain.labels))}"] * bool(chain.labels)
    words = [drawn["sampler"], *eta, grid, *chosen, f"step_{subject.step:07d}", f"seed_{chain.seed}"]
    return "_".join([*words, *["truncated"] * chain.truncate, *["raw"] * subject.raw])


def parts_folder(subject: Subject, chain: Chain) -> Path:
    """The folder of a set's parts, named by everything that its images depend on, which their number is not.

    It lies in the run's folder, or in the user's cache where that can only be read.
    """
    experiment = subject.experiment
    key = {
        **measurement_protocol.of_samples(experiment, chain),
        "config_hash": config_hash(experiment.config),
        "parameters": measurement_protocol.digest(subject.params),
        "classes": experiment.classes,
        "precision": measurement_protocol.precision(experiment),
    }
    place = subject.folder / "samples" / "parts" if writable(subject.folder) else cache_folder("samples")
    return place / f"{stem(subject, chain)}_{digest(key)[:12]}"


def draw(
    subject: Subject,
    chain: Chain,
    n: int,
    batch_size: int,
    progress: Callable[[int], object] = lambda done: None,  # noqa: ARG005
) -> tuple[np.ndarray, int]:
    """The first n images of a chain, uint8 [n, H, W, C], and how many of them are not finite.

    Those that are stored already are read, the others are drawn over all devices. Image i depends on the seed and i
    alone. Parts are whole batches, so an interrupted set gets, with the same batch size, the same bytes as one drawn in
    one go. `progress` is called with the number of images that exist. Raises ValueError where another process draws the
    same set.
    """
    pixels, finite = resumed(parts_folder(subject, chain), n, partial(batches, subject, chain, n, batch_size), progress)
    return pixels, int((~finite).sum())


def resumed(
    folder: Path, n: int, batches: Callable[[int], Iterable[Batch]], progress: Callable[[int], object]
) -> Batch:
    """The first n images of the set in a folder: those that are stored, and after them batches(first), stored too.

    Parts are files named by their first image; the last is written when the batches end or raise.
    """
    with exclusive(folder / "lock", str(folder), "wait until it ends, then run this again"):
        parts = stored(folder, n)
        done, drawn, since = sum(len(pixels) for pixels, _ in parts), [], time.monotonic()
        progress(min(done, n))

        def write() -> None:
            if drawn:
                first = sum(len(pixels) for pixels, _ in parts)  # a signal may come before a batch counts in `done`
                part = joined(drawn)
                write_npz(folder / f"images_{first:07d}.npz", {"pixels": part[0], "finite": part[1]})
                drawn.clear()
                parts.append(part)

        try:
            for batch in batches(done) if done < n else ():
                drawn.append(batch)
                done += len(batch[0])
                progress(done)
                if time.monotonic() - since > SECONDS:
                    write()
                    since = time.monotonic()
        finally:
            write()
    pixels, finite = joined(parts)
    return pixels[:n], finite[:n]


def stored(folder: Path, n: int) -> list[Batch]:
    """The parts of the first n images in a folder. A missing or damaged one ends the list, and is drawn again."""
    parts, done = [], 0
    while done < n:
        try:
            arrays = npz_reader.read(folder / f"images_{done:07d}.npz")
            parts.append((arrays["pixels"], arrays["finite"]))
        except (ValueError, OSError, KeyError):
            break
        done += len(parts[-1][0])
    return parts


def batches(subject: Subject, chain: Chain, n: int, batch_size: int, first: int = 0) -> Iterator[Batch]:
    """Images first..n-1 of a chain, as `sample_batches.batches` yields them; nothing is stored."""
    experiment = subject.experiment
    sampler = experiment.sampler(
        chain.sampler or "", respacing.parse(measurement_protocol.grid_of(experiment, chain.grid)), chain.eta
    )

    def images(keys: Keys, labels: Labels) -> Image:
        return sampler(subject.params, keys, labels).x_0

    batch, classes = experiment.batch(min(batch_size, n)), chain.labels or experiment.classes
    return sample_batches.batches(images, n, batch, chain.seed, classes, first=first, truncate=chain.truncate)
