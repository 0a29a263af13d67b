"""Flags of scripts that read a run: its folder, or weights that come with the repository."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from absl import flags

from diffusion.runtime import before_jax, command_line


def define_run(meaning: str) -> Callable[[], Path]:
    """Defines --workdir and --pretrained; returns what gives the folder of the run that they name.

    Of shipped weights it is made at the first use; `commands/pretrained.py` says where. It raises ValueError where
    neither flag is given, or both are, or there are no such weights.
    """
    workdir = command_line.define_path("workdir", meaning)
    name = flags.DEFINE_string("pretrained", None, "weights that come with the repository, instead; ? lists them")

    def folder() -> Path:
        if name.value is None:
            return command_line.required(workdir)
        if workdir.value is not None:
            raise ValueError(f"--workdir={workdir.value} and --pretrained={name.value} are two runs; give one of them")
        before_jax.configure()
        of_flag = import_module("diffusion.commands.pretrained").of_flag
        return of_flag(name.value, lambda line: print(line, file=sys.stderr, flush=True))

    return folder
