"""What scripts/plan.py runs: an experiment compiled for each target, and the reports."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from diffusion.commands import advice_when_out_of_memory
from diffusion.commands.import_weights import SETS
from diffusion.config.config_dict import flatten, restore
from diffusion.config.validation import validate
from diffusion.core import respacing
from diffusion.experiment import build
from diffusion.planning import compile_for_target, kernel_and_byte_counts, report, report_csv, targets
from diffusion.planning.compile_for_target import Data, Job
from diffusion.planning.memory_and_time import Estimate, estimate, known
from diffusion.planning.targets import Target
from diffusion.runtime.atomic_files import write_json
from diffusion.runtime.paths import check_file

CLASSES = 1000
"""Labels assumed of a set that is not at hand; they only give the embedding its rows."""
PER = {"train": "a training step", "sample": "a step of the sampler's chain"}
"""What the numbers are of."""


def data(config: ConfigDict, images: int | None) -> Data:
    """The config's training set by its shapes, without reading it where it is not built in.

    Raises ValueError where the size of its images is not known.
    """
    name = config.data.name
    shape, size, classes = (config.data.size, config.data.size, config.data.channels or 3), images or 0, CLASSES
    if name in SETS:
        shape, known_size, classes = SETS[name]
        size = images or known_size
    elif name.startswith("toy:"):
        source = build.splits(config)(True)
        shape, size, classes = source.shape, images or source.size, source.classes
    elif not config.data.size:
        raise ValueError(f"data.name = {name}: set --config.data.size, the side of its images; the set is not read")
    fits = 0 < size * shape[0] * shape[1] * shape[2] <= config.data.resident_mb * 2**20
    return Data(shape, size, classes, fits)


def run(
    config: ConfigDict,
    names: Sequence[str],
    say: Callable[[str], None],
    *,
    title: str = "",
    what: str = "train",
    images: int | None = None,
    timeout: float = 900.0,
    fit: bool = False,
    csv: Path | None = None,
    json: Path | None = None,
    prices: Mapping[str, float] = {},
) -> None:
    """Compiles for every target and reports: one alone on a screen, several in a table.

    `say` prints a line of the result, or progress that starts with a carriage return. title: the config's name; what: a
    key of compile_for_target.PROGRAMS; images: number of training images, where the set is not known; fit: whether
    changes that reduce memory are compiled too; csv: a file that receives a line for each program; json: one of all
    numbers; prices: of a chip-hour, by model. Raises ValueError for a name that is no target, before anything is
    compiled for a csv or json that cannot be written or is another kind of file, and where no target could be compiled,
    with the line of the first error.
    """
    for flag, path in (("csv", csv), ("json", json)):
        check_file(flag, path)
    if csv:
        report_csv.read(csv)
    programs: list[tuple[Target, str, ConfigDict]] = []
    for target in map(targets.parse, names):
        programs += [(target, "", config), *(alternatives(config, target) if fit else [])]
    rows: list[tuple[str, ...]] = []
    done: list[tuple[str, Estimate]] = []
    errors: list[str] = []
    for target, change, changed in programs:
        name = f"+ {change}" if change else target.name
        try:
            inputs = data(changed, images)
            validate(changed, size=inputs.shape[0])
            job = Job(flatten(changed), inputs, target.name, what)
            compiled = compile_for_target.compile_in_child(
                job, timeout, lambda seconds, name=name: say(f"\rcompiling for {name}: {seconds:.0f} s")
            )
        except ValueError as error:
            errors.append(str(error))
            rows.append(report.row(name, str(error)))
            continue
        sampling = what == "sample"
        steps = build.levels(changed, respacing.parse(changed.sample.grid)).T if sampling else changed.train.steps
        cost = kernel_and_byte_counts.of(compiled.program, sampling)
        result = estimate(target, cost, compiled.memory, steps)
        done.append((name, result))
        rows.append(report.row(name, result, prices.get(target.model)))
        if csv:
            report_csv.put(csv, report_csv.record(title, job, change, result))
        if not change:
            for line in report.lines(result, PER[what]):
                say(line)
    if len(errors) == len(programs):
        raise ValueError(errors[0])
    for line in errors:
        say(line)
    if len(rows) > 1:
        say(report.table(rows))
    if prices:
        say(cheapest(done, prices))
    if json:
        write_json(json, [report.as_json(name, e, PER[what]) for name, e in done])


def parse_prices(parts: Sequence[str]) -> dict[str, float]:
    """{"tpu:v5e": 1.2} from ["tpu:v5e=1.2"]. Raises ValueError for another form or model."""
    prices = {}
    for part in parts:
        model, _, price = part.partition("=")
        if model not in targets.HARDWARE or not re.fullmatch(r"\d*\.?\d+", price):
            raise ValueError(f"--price={part}: give MODEL=NUMBER, such as tpu:v5e=1.2; --target=? lists the models")
        prices[model] = float(price)
    return prices


def cheapest(done: Sequence[tuple[str, Estimate]], prices: Mapping[str, float]) -> str:
    """The line of the program that fits and costs least, at its slow end."""
    priced = [(name, e, prices[e.target.model]) for name, e in done if e.fits and known(e) and e.target.model in prices]
    if not priced:
        return "cheapest     none: nothing that has a price fits"
    price, name = min((e.price(price)[1], name) for name, e, price in priced)
    return f"cheapest     {name}: {price:.3g} at most"


def alternatives(config: ConfigDict, target: Target) -> list[tuple[Target, str, ConfigDict]]:
    """Changes of the config that reduce memory, and more devices with the config as it is."""
    programs = []
    for key, value in advice_when_out_of_memory.settings(config, target.count):
        changed = restore(config)
        changed.update_from_flattened_dict({key: value})
        programs.append((target, f"{key}={value}", changed))
    wider = [targets.parse(name) for name in targets.wider(target)]
    return programs + [(wide, "", config) for wide in wider if config.train.batch_size % wide.count == 0]
