"""Whether a run is a published experiment, and whether a result has the published protocol.

A run qualifies if its config equals that of the published experiment in every key that changes what is computed, and
if its checkpoint has taken the published number of steps, or that of the checkpoint which the authors released.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.config.config_values import config_hash, flatten
from diffusion.config.schema import KEYS, RESUMABLE
from diffusion.published.cells import Experiment, Measure
from diffusion.runtime.files import read_json
from diffusion.workdir.results import Result, find
from diffusion.workdir.run import read_run

COMPARED = tuple(key for key in KEYS if key not in RESUMABLE | {"seed", "data.name"})
"""Keys in which a run must equal the published experiment."""

NOT_STATED = "not stated"
READERS: dict[str, Callable[[Any], Any]] = {
    "grid": lambda grid: {"": "full"}.get(str(grid), grid),
    "features": lambda network: str(network).partition(" ")[0],
}
"""How entries of a protocol are read that spell one value in two ways; after a network's name comes a fingerprint."""


class StoredResult(NamedTuple):
    """A result file with the config of its run."""

    path: Path
    result: Result
    folder: Path
    config: dict[str, Any] | None
    """The run's config, flat; None where it cannot be read."""
    fault: str
    """Why the config cannot be read; empty if it can."""


def stored_results(root: Path) -> list[StoredResult]:
    """All results below a folder, with the configs of their runs."""
    runs: dict[Path, tuple[dict[str, Any] | None, str, set[str]]] = {}
    stored = []
    for path, result in find(root):
        folder = path.parent.parent
        if folder not in runs:
            runs[folder] = _read(folder)
        config, fault, hashes = runs[folder]
        measured_on = result.protocol.get("config_hash")
        if config is not None and measured_on is not None and measured_on not in hashes:
            config, fault = None, f"{path.name} was measured on another config than that of {folder}/config.json"
        stored.append(StoredResult(path, result, folder, config, fault))
    return stored


def _read(folder: Path) -> tuple[dict[str, Any] | None, str, set[str]]:
    """The config of a run, why it cannot be read, and the config hashes that its results may state."""
    try:
        config = read_run(folder).config
        saved = read_json(folder / "config.json").get("hash")
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split()), set()
    return flatten(config), "", {config_hash(config), str(saved)}


def run_differences(experiment: Experiment, config: Mapping[str, Any], step: Any) -> list[str]:
    """Where a run differs from the published one: in keys of its flat config, in the step of its checkpoint."""
    published, lines = experiment.values(), []
    if not same_data(config, published):
        lines.append(f"data.name = {config['data.name']!r} (published: {published['data.name']!r})")
    for key in COMPARED:
        if config[key] != published[key]:
            lines.append(f"{key} = {config[key]!r} (published: {published[key]!r})")
    steps = published["train.steps"]
    if step not in (steps, experiment.released or steps):
        lines.append(f"step {f'{step:,}' if isinstance(step, int) else NOT_STATED} of {steps:,}")
    return lines


def same_data(config: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Whether flat configs name one data set: by its own loader or TFDS, or as a folder of the same `paper`.

    A folder is accepted only for a set that has no loader of its own, as configs of such sets propose.
    """
    name, wanted = config["data.name"], published["data.name"]
    folder = name.startswith("folder:") and wanted.startswith("tfds:") and config["paper"] == published["paper"]
    return bare_name(name) == bare_name(wanted) or folder


def bare_name(name: str) -> str:
    """A data set's name without the prefix tfds: and the version."""
    return re.sub(r"^tfds:|:\d[\d.]*$", "", name)


def value_differences(wanted: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """A line for each key of a flat protocol whose value is not the wanted one."""
    lines = []
    for key, value in wanted.items():
        actual = protocol.get(key, NOT_STATED)
        if key in protocol and key in READERS:
            actual = READERS[key](actual)
        if actual != value:
            lines.append(f"{key.replace('.', ' ')}: {actual} (published: {value})")
    return lines


def protocol_differences(measure: Measure, protocol: Mapping[str, Any]) -> list[str]:
    """What keeps a number of this flat protocol from comparing with the published one.

    Images, weights, splits, and the network whose features are compared.
    """
    images, lines = count(protocol.get("images")), []
    if images < measure.images or (images > measure.images and measure.exact):
        name = f"{measure.metric.upper()}-{images}, whose bias depends on that number: " if measure.exact else ""
        lines.append(f"{name}{images:,} images (published: {measure.images:,})")
    lines += [f"{key} {protocol[key]} (published: none)" for key in ("guidance", "labels") if key in protocol]
    return [*lines, *value_differences(measure.binding, protocol)]


def count(number: Any) -> int:
    """A count in a protocol; 0 where it is absent."""
    return number if isinstance(number, int) else 0
