"""The published experiments as configs of configs/, and how another config departs from the one that it names.

The files state each hyper-parameter with its place in the paper: Ho, Jain and Abbeel 2020 (DDPM), Nichol and Dhariwal
2021 (Improved DDPM).
"""

from functools import cache
from typing import Any

from diffusion.config.config_values import Config, flatten, unread
from diffusion.config.files import ROOT, load
from diffusion.config.schema import KEYS, PAPERS, RESUMABLE

COMPARED = frozenset(KEYS.keys() - RESUMABLE - {"seed"}) | {
    *("train.steps", "sample.sampler", "sample.grid", "sample.clip")
}
"""The hyper-parameters of an experiment: what is trained, how long, and how it is sampled."""
PREPARED = "tfds:"
"""Data sets that may also be read from a folder, so that another name is no departure."""


@cache
def values(paper: str) -> dict[str, Any]:
    """The hyper-parameters of a published experiment, by config key: those of its config file."""
    published = flatten(load(ROOT / "configs" / f"{paper}.py"))
    return {key: value for key, value in published.items() if key in COMPARED - unread(published)}


def deviations(config: Config) -> list[str]:
    """Lines such as "optim.lr = 0.001 (paper: 0.0002)" where a config departs from the experiment that it names.

    Empty for a faithful config and for one whose `paper` is empty. Raises ValueError for an unknown experiment.
    """
    flat = flatten(config)
    if not flat["paper"]:
        return []
    if flat["paper"] not in PAPERS:
        raise ValueError(f"config.paper: {flat['paper']!r} is not one of {', '.join(PAPERS)}")
    return [
        f"{key} = {flat[key]!r} (paper: {value!r})"
        for key, value in values(flat["paper"]).items()
        if flat[key] != value and not (key == "data.name" and value.startswith(PREPARED))
    ]
