"""Flags of scripts that read the data of a run again: whether they may have changed, and where they are now."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from absl import flags

from diffusion.runtime.command_line import define_overrides

PLACES = ("data.name", "data.dir", "data.download")
"""The keys that say where data are."""


class DataFlags(NamedTuple):
    """What a user states of a run's data."""

    accept: bool = False
    """Whether they may differ from those that the run was made with."""
    places: Mapping[str, Any] = MappingProxyType({})
    """Keys of PLACES -> values: where they are now."""


def define_data_changed() -> flags.FlagHolder[str | None]:
    """Defines --data_changed; its value is true where changed data are accepted."""
    text = "accept: resume or evaluate although the data are not those that the run was made with (docs/data.md)"
    return flags.DEFINE_enum("data_changed", None, ["accept"], text)


def define_data_flags() -> Callable[[], DataFlags]:
    """Defines --data_changed and --config.data.name, .dir and .download; returns what reads them."""
    changed, places = define_data_changed(), define_overrides(PLACES)
    return lambda: DataFlags(bool(changed.value), places.overrides)
