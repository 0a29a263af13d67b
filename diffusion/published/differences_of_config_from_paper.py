"""How a config or a run departs from a published experiment.

The configs of configs/ are the published experiments; each states its hyper-parameters with their places in the paper.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from diffusion.config.config_dict import Config, flatten, unread
from diffusion.config.config_files import ROOT, load
from diffusion.config.keys_with_legal_values import KEYS, RESUMABLE
from diffusion.published.table_types import Experiment

COMPUTED = frozenset(KEYS) - RESUMABLE - {"seed"}
"""Keys that change what a run computes, apart from its seed and its length."""
STATED = COMPUTED | {"train.steps", "sample.sampler", "sample.grid", "sample.clip"}
"""The hyper-parameters of an experiment: what is trained, how long, and how it is sampled."""
PREPARED = "tfds:"
"""Data sets that may also be read from a folder, so that another name is no deviation."""


@cache
def values(paper: str) -> dict[str, Any]:
    """The hyper-parameters of a published experiment, by config key: those of its config file."""
    published = flatten(load(ROOT / "configs" / f"{paper}.py"))
    return {key: value for key, value in published.items() if key in STATED - unread(published)}


def deviations(config: Config) -> list[str]:
    """Lines such as "optim.lr = 0.001 (paper: 0.0002)" where a valid config departs from the experiment that it names.

    Empty for a faithful config and for one whose `paper` is empty.
    """
    flat = flatten(config)
    if not flat["paper"]:
        return []
    published = values(flat["paper"])
    prepared = {"data.name"} if published["data.name"].startswith(PREPARED) else set()
    return _changed(flat, published, (key for key in published if key not in prepared), "paper")


def run_differences(experiment: Experiment, config: Mapping[str, Any], step: Any) -> list[str]:
    """Where a run differs from the published one: in keys of its flat config, in the step of its checkpoint.

    Published are the number of steps and that of the checkpoint which the authors released.
    """
    published = experiment.values()
    keys = (key for key in KEYS if key in COMPUTED - {"data.name"})
    data = [] if same_data(config, published) else _changed(config, published, ["data.name"], "published")
    lines = data + _changed(config, published, keys, "published")
    steps = published["train.steps"]
    if step not in (steps, experiment.released or steps):
        lines.append(f"step {f'{step:,}' if isinstance(step, int) else 'not stated'} of {steps:,}")
    return lines


def same_data(config: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Whether flat configs name one data set: by its own loader or TFDS, or as a folder of the same `paper`.

    A folder is accepted only for a set that has no loader of its own, as configs of such sets propose.
    """
    name, wanted = config["data.name"], published["data.name"]
    folder = name.startswith("folder:") and wanted.startswith(PREPARED) and config["paper"] == published["paper"]
    return bare_name(name) == bare_name(wanted) or folder


def bare_name(name: str) -> str:
    """A data set's name without the prefix tfds: and the version."""
    return re.sub(r"^tfds:|:\d[\d.]*$", "", name)


def _changed(config: Mapping[str, Any], published: Mapping[str, Any], keys: Iterable[str], source: str) -> list[str]:
    return [f"{key} = {config[key]!r} ({source}: {published[key]!r})" for key in keys if config[key] != published[key]]
