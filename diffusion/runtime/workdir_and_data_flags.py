"""Flags of scripts that read a run: its folder or shipped weights, and where the data are that it was made with."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from absl import flags

from diffusion.runtime import before_jax, command_line, config_flag

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
    changed, places = define_data_changed(), config_flag.define_overrides(PLACES)
    return lambda: DataFlags(bool(changed.value), places.overrides)


def define_run(meaning: str) -> Callable[[], Path]:
    """Defines --workdir and --pretrained; returns what gives the folder of the run that they name.

    Of shipped weights it is made at the first use; `commands/pretrained_weights_as_run.py` says where. It raises
    ValueError where neither flag is given, or both are, or there are no such weights.
    """
    workdir = command_line.define_path("workdir", meaning)
    name = flags.DEFINE_string("pretrained", None, "weights of the repository, instead of --workdir; ? lists them")

    def folder() -> Path:
        if name.value is None:
            return command_line.required(workdir.value)
        if workdir.value is not None:
            raise ValueError(f"--workdir={workdir.value} and --pretrained={name.value} are two runs; give one of them")
        before_jax.configure()
        of_flag = import_module("diffusion.commands.pretrained_weights_as_run").of_flag
        return of_flag(name.value, lambda line: print(line, file=sys.stderr, flush=True))

    return folder
