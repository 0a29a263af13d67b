"""Whether a run is a published experiment, and a result's protocol the published one.

A run qualifies if its config is that of the published experiment in every key that changes what is computed, and the
checkpoint has taken the published number of steps, or as many as the one that the authors released.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diffusion.config.config import config_hash, flatten
from diffusion.config.schema import KEYS, RESUMABLE
from diffusion.published.cells import Experiment, Measure
from diffusion.workdir.results import Result, find
from diffusion.workdir.run import read_run

MATTERS = tuple(key for key in KEYS if key not in RESUMABLE | {"seed", "data.name"})
"""Keys in which a run must equal the published experiment."""

UNSAID = "not stated"
SPELLED = {"grid": {"": "full"}}
"""Two ways in which a protocol may say the same."""


class Found(NamedTuple):
    """A result file and the run that it is of."""

    path: Path
    result: Result
    folder: Path
    config: dict[str, Any] | None
    """The run's, flat."""
    fault: str
    """Why its run cannot be told; empty if it can."""


def survey(root: Path) -> list[Found]:
    """All results below a folder, with the configs of their runs."""
    runs: dict[Path, tuple[dict[str, Any] | None, str, set[str]]] = {}
    made = []
    for path, result in find(root):
        folder = path.parent.parent
        if folder not in runs:
            runs[folder] = _run(folder)
        config, fault, hashes = runs[folder]
        given = result.protocol.get("config_hash")
        if config is not None and given is not None and given not in hashes:
            config, fault = None, f"{path.name} was measured on another config than that of {folder}/config.json"
        made.append(Found(path, result, folder, config, fault))
    return made


def departures(experiment: Experiment, config: Mapping[str, Any], step: Any) -> list[str]:
    """Where a run (its flat config) is not the published one: in keys of the config, in the steps of its checkpoint."""
    published, lines = experiment.values(), []
    if not same_data(config, published):
        lines.append(f"data.name = {config['data.name']!r} (published: {published['data.name']!r})")
    for key in MATTERS:
        if config[key] != published[key]:
            lines.append(f"{key} = {config[key]!r} (published: {published[key]!r})")
    steps = published["train.steps"]
    if step not in (steps, experiment.released or steps):
        lines.append(f"step {f'{step:,}' if isinstance(step, int) else UNSAID} of {steps:,}")
    return lines


def same_data(config: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Whether flat configs name one data set: as it is, by way of TFDS, or as a folder if they name one paper.

    A folder stands only for a set that has no loader of its own, as configs of such sets propose.
    """
    ours, theirs = config["data.name"], published["data.name"]
    folder = ours.startswith("folder:") and theirs.startswith("tfds:") and config["paper"] == published["paper"]
    return bare(ours) == bare(theirs) or folder


def bare(name: str) -> str:
    """A data set's name without the prefix tfds: and the version."""
    return re.sub(r"^tfds:|:\d[\d.]*$", "", name)


def unlike(wanted: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """The keys of a flat protocol whose values are not the wanted ones, in words."""
    lines = []
    for key, value in wanted.items():
        given = protocol.get(key, UNSAID)
        given = SPELLED[key].get(str(given), given) if key in SPELLED else given
        if given != value:
            lines.append(f"{key.replace('.', ' ')}: {given} (published: {value})")
    return lines


def departs(measure: Measure, protocol: Mapping[str, Any]) -> list[str]:
    """What keeps a number of this flat protocol from comparing with the published one: images, weights, splits."""
    given, lines = count(protocol.get("images")), []
    if given < measure.images or (given > measure.images and measure.exact):
        name = f"{measure.metric.upper()}-{given}, whose bias depends on that number: " if measure.exact else ""
        lines.append(f"{name}{given:,} images (published: {measure.images:,})")
    lines += [f"{key} {protocol[key]} (published: none)" for key in ("guidance", "labels") if key in protocol]
    return [*lines, *unlike(measure.binding, protocol)]


def count(given: Any) -> int:
    """A count in a protocol; 0 where it has none."""
    return given if isinstance(given, int) else 0


def _run(folder: Path) -> tuple[dict[str, Any] | None, str, set[str]]:
    """The config of a run, why it cannot be told, and the hashes by which its results may name it."""
    try:
        config = read_run(folder).config
        saved = json.loads((folder / "config.json").read_text()).get("hash")
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split()), set()
    return flatten(config), "", {config_hash(config), str(saved)}
