"""Which stored results fill which published cell, and why others fill none.

A result belongs to a cell if its run is the published experiment (differences_of_config_from_paper.py), and its chain
and split are the cell's. Where its protocol differs from the published one beyond that, the number does not reproduce
the cell and is only shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.config.config_dict import config_hash, flatten
from diffusion.published.differences_of_config_from_paper import bare_name, run_differences, same_data
from diffusion.published.table_types import Measure, Table
from diffusion.runtime.atomic_files import read_json
from diffusion.workdir.result_files import Result, find
from diffusion.workdir.run_config import read_run


class StoredResult(NamedTuple):
    """A result file with the config of its run."""

    path: Path
    result: Result
    config: dict[str, Any] | None
    """The run's config, flat; None where it cannot be read."""
    fault: str
    """Why the config cannot be read; empty if it can."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.path.parent.parent

    @property
    def step(self) -> Any:
        """The step of its checkpoint, if the protocol has one."""
        return self.result.protocol.get("step")


def stored_results(root: Path) -> list[StoredResult]:
    """All results below a folder, with the configs of their runs."""
    stored, read_config = [], cache(_read_config)
    for path, result in find(root):
        folder = path.parent.parent
        config, fault, hashes = read_config(folder)
        measured_on = result.protocol.get("config_hash")
        if config is not None and measured_on is not None and measured_on not in hashes:
            config, fault = None, f"{path.name} was measured on another config than that of {folder}/config.json"
        stored.append(StoredResult(path, result, config, fault))
    return stored


def _read_config(folder: Path) -> tuple[dict[str, Any] | None, str, set[str]]:
    """The config of a run, why it cannot be read, and the config hashes that its results may state."""
    try:
        config = read_run(folder).config
        saved = read_json(folder / "config.json").get("hash")
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split()), set()
    return flatten(config), "", {config_hash(config), str(saved)}


class Reading(NamedTuple):
    """A number that was measured for a cell."""

    stored: StoredResult
    value: float
    error: float | None
    """Its spread or standard error, where the result has one."""
    departs: tuple[str, ...]
    """What keeps it from comparing with the published number."""
    notes: tuple[str, ...]
    """Smaller differences."""


Place = tuple[str, str, str]
"""Names of table, row and column."""


class Comparison(NamedTuple):
    """Tables beside stored results."""

    cells: dict[Place, Reading]
    """Cells without a reading are absent."""
    unused: list[str]
    """Runs and results that fill no cell, a line each with the reason."""

    def fills(self, place: Place) -> bool:
        """Whether a cell was measured as published."""
        return place in self.cells and not self.cells[place].departs


def compare(tables: Sequence[Table], results: Sequence[StoredResult]) -> Comparison:
    """A reading of every cell, and the results that fill none.

    Of several readings the one that departs least from the published protocol is taken, of these that of the last
    checkpoint, then the one with the fewest notes.
    """
    measures = {
        (t.name, r.label, column): cell.measure for t in tables for r, column, cell in t.cells() if cell.measure
    }
    order = lambda r: (len(r.departs), -count(r.stored.step), len(r.notes), str(r.stored.path))  # noqa: E731
    candidates = {place: sorted(_readings(measure, results), key=order) for place, measure in measures.items()}
    cells = {place: readings[0] for place, readings in candidates.items() if readings}
    shown = {reading.stored.path for reading in cells.values()}
    return Comparison(cells, _unused([r for r in results if r.path not in shown], list(measures.values())))


def _readings(measure: Measure, results: Sequence[StoredResult]) -> Iterator[Reading]:
    """Readings from the results of the measure's experiment, metric and chain."""
    experiment = measure.experiment
    for stored in results:
        if stored.result.name != measure.metric or stored.config is None:
            continue
        protocol = flatten(stored.result.protocol)
        if value_differences(measure.chain, protocol) or run_differences(experiment, stored.config, stored.step):
            continue
        if (value := measure.read(stored.result)) is not None:
            notes = value_differences(measure.loose, protocol)
            name, published = stored.config["data.name"], experiment.values()["data.name"]
            if bare_name(name) != bare_name(published):
                notes.append(f"images from {name}, taken to be {published}")
            departs = protocol_differences(measure, protocol)
            yield Reading(stored, value, stored.result.values.get(measure.error), tuple(departs), tuple(notes))


def value_differences(wanted: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """A line for each key of a flat protocol whose value is not the wanted one."""
    lines = []
    for key, value in wanted.items():
        actual = protocol.get(key, "not stated")
        if actual != value and not str(actual).startswith(f"{value} "):  # after a network's name comes a fingerprint
            lines.append(f"{key.replace('.', ' ')}: {actual} (published: {value})")
    return lines


def protocol_differences(measure: Measure, protocol: Mapping[str, Any]) -> list[str]:
    """What keeps a number of this flat protocol from comparing with the published one."""
    images, lines = count(protocol.get("images")), []
    if images < measure.images or (images > measure.images and measure.exact):
        name = f"{measure.metric.upper()}-{images}, whose bias depends on that number: " if measure.exact else ""
        lines.append(f"{name}{images:,} images (published: {measure.images:,})")
    lines += [f"{key} {protocol[key]} (published: none)" for key in ("guidance", "labels") if key in protocol]
    if whole := count(protocol.get("reference.of")):
        lines.append(f"{count(protocol.get('reference.images')):,} reference images of {whole:,} (published: all)")
    return [*lines, *value_differences(measure.binding, protocol)]


def count(number: Any) -> int:
    """A count in a protocol; 0 where it is absent."""
    return number if isinstance(number, int) else 0


def _unused(results: Sequence[StoredResult], measures: Sequence[Measure]) -> list[str]:
    """A line for each run and reason."""
    lines: dict[tuple[Path, str], list[str]] = {}
    for stored in results:
        key, value = next(iter(stored.result.values.items()), ("", float("nan")))
        headline = f"{stored.result.name} {key} = {value:.4g}" if key else stored.result.name
        lines.setdefault((stored.folder, _reason(stored, measures)), []).append(headline)
    return [f"{folder}: {reason} [{'; '.join(values)}]" for (folder, reason), values in lines.items()]


def _reason(stored: StoredResult, measures: Sequence[Measure]) -> str:
    """Why a result fills no cell: its run is no published experiment, or no cell is left for its metric and chain."""
    config = stored.config
    if config is None:
        return stored.fault
    experiments = dict.fromkeys(measure.experiment for measure in measures)
    same = [experiment for experiment in experiments if same_data(config, experiment.values())]
    if not same:
        return f"none of these tables is about the data {config['data.name']!r}"
    nearest = min(same, key=lambda experiment: len(run_differences(experiment, config, stored.step)))
    if lines := run_differences(nearest, config, stored.step):
        return f"not the published experiment; nearest is {nearest.name}, which differs in {'; '.join(lines)}"
    return f"the published {nearest.name}, but no cell has this metric, chain and split, or another result fills it"
