"""What scripts/plan.py runs: an experiment compiled for each target, and the reports."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from diffusion.commands import settings_that_save_memory
from diffusion.config.config_dict import flatten, restore
from diffusion.config.validation import validate
from diffusion.core import respacing
from diffusion.experiment import build
from diffusion.planning import compile_for_target, kernels_and_bytes, report, report_csv, targets
from diffusion.planning.compile_for_target import Data, Job
from diffusion.planning.memory_and_time import Estimate, estimate, known
from diffusion.planning.targets import Target

SETS = {"cifar10": ((32, 32, 3), 50_000, 10), "mnist": ((28, 28, 1), 60_000, 10)}
"""data.name -> shape, training images, classes, of sets that need not be on disk to plan a run."""
CLASSES = 1000
"""Labels assumed of a set that is not at hand; they only give the embedding its rows."""


class Question(NamedTuple):
    """What is asked of every target."""

    what: str
    """A key of compile_for_target.PROGRAMS."""
    images: int | None
    """Training images, where the set is not known; decides whether it is resident."""
    timeout: float
    fit: bool
    """Whether changes that reduce memory are compiled too."""
    csv: Path | None = None
    """File that receives a line for each program."""


def data(config: ConfigDict, images: int | None) -> Data:
    """The config's training set by its shapes, without reading it where it is not built in.

    Raises ValueError where the size of its images is not known.
    """
    name = config.data.name
    shape, size, classes = (config.data.size, config.data.size, config.data.channels or 3), images or 0, CLASSES
    if name in SETS:
        shape, known_size, classes = SETS[name]
        size = images or known_size
    elif name == "digits" or name.startswith("toy:"):
        source = build.splits(config)(True)
        shape, size, classes = source.shape, images or source.size, source.classes
    elif not config.data.size:
        raise ValueError(f"data.name = {name}: set --config.data.size, the side of its images; the set is not read")
    fits = 0 < size * shape[0] * shape[1] * shape[2] <= config.data.resident_mb * 2**20
    return Data(shape, size, classes, fits)


def run(config: ConfigDict, names: Sequence[str], question: Question, say: Callable[[str], None]) -> None:
    """Compiles for every target and reports: one alone on a screen, several in a table.

    `say` prints a line of the result, or progress that starts with a carriage return. Raises ValueError for a name
    that is no target, and where no target could be compiled, with the line of the error if there was but one.
    """
    chosen = [targets.parse(name) for name in names]
    rows: list[tuple[str, ...]] = []
    done: list[tuple[str, Estimate]] = []
    errors: list[str] = []
    several = len(chosen) > 1 or question.fit
    for target in chosen:
        for label, changed in [(target.name, config), *(alternatives(config, target) if question.fit else [])]:
            where = target if label not in targets.wider(target) else targets.parse(label)
            try:
                result = one(changed, where, question, partial(_progress, say, label))
            except ValueError as error:
                errors.append(str(error))
                if several:
                    say(str(error))
                rows.append(report.row(label, str(error)))
                continue
            name = label if label in (target.name, where.name) else f"+ {label}"
            done.append((name, result))
            if question.csv:
                change = "" if name in (target.name, where.name) else label
                report_csv.put(question.csv, report_csv.record(changed, question.what, change, result))
            rows.append(report.row(name, result))
            if label == target.name:
                for line in report.lines(result, PER[question.what]):
                    say(line)
    if not done:
        raise ValueError("none of the targets could be compiled" if several else errors[0])
    if len(rows) > 1:
        say(report.table(rows))
        say(best(done))


PER = {"train": "a training step", "sample": "a step of the sampler's chain"}
"""What the numbers are of."""


def one(config: ConfigDict, target: Target, question: Question, tick: Callable[[float], None]) -> Estimate:
    """The estimate of a config on a target. Raises ValueError where it is not legal or cannot be compiled."""
    inputs = data(config, question.images)
    validate(config, size=inputs.shape[0])
    job = Job(flatten(config), inputs, target.name, question.what)
    compiled = compile_for_target.compile_in_child(job, question.timeout, tick)
    sampling = question.what == "sample"
    steps = build.levels(config, respacing.parse(config.sample.grid)).T if sampling else config.train.steps
    return estimate(target, kernels_and_bytes.of(compiled.program, sampling), compiled.memory, steps)


def alternatives(config: ConfigDict, target: Target) -> list[tuple[str, ConfigDict]]:
    """Changes of the config that reduce memory, and more devices with the config as it is."""
    found = []
    for key, value in settings_that_save_memory.settings(config, target.count):
        changed = restore(config)
        changed.update_from_flattened_dict({key: value})
        found.append((f"{key}={value}", changed))
    return [
        *found,
        *((name, config) for name in targets.wider(target) if config.train.batch_size % targets.parse(name).count == 0),
    ]


def best(done: Sequence[tuple[str, Estimate]]) -> str:
    """The one that fits and needs the fewest chip-hours."""
    fitting = [(name, e) for name, e in done if e.fits and known(e)]
    if not fitting:
        return "none of them fits" if not any(e.fits for _, e in done) else ""
    hours, name = min((e.hours()[1] * e.target.chips, name) for name, e in fitting)
    return f"least        {name}: {hours:.3g} chip-hours at most"


def _progress(say: Callable[[str], None], label: str, seconds: float) -> None:
    say(f"\rcompiling for {label}: {seconds:.0f} s")
