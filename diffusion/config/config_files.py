"""Config files: found by name, loaded with a variant, explained. Every fault is a ValueError in one line."""

import os
import re
import runpy
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion.config.config_dict import flatten
from diffusion.config.keys_with_legal_values import CHOICES, KEYS
from diffusion.config.misspelt_names import closest_name

ROOT = Path(__file__).resolve().parents[2]

UNKNOWN_KEY = re.compile(r"""\W*(?:Key )?[\\"']+(\w+)[\\"']""")
"""The start of a ConfigDict's error about a key that it does not have; all of its values follow."""


def find(name: str, flag: str = "--config", folder: str = "configs") -> Path:
    """The file of this name, in the working directory or in the project's root. Raises ValueError if there is none."""
    for path in (Path(os.path.expanduser(name)), ROOT / name):
        if path.is_file():
            return path
    files = {path.stem: f"{folder}/{path.name}" for path in sorted((ROOT / folder).glob("[!_]*.py"))}
    best = closest_name(Path(name).stem, files)
    hint = f"did you mean {files[best]}?" if best else f"there are {', '.join(files.values())}"
    raise ValueError(f"{flag}={name}: no such file; {hint}")


def load(name: str | Path) -> ConfigDict:
    """The config of a file, or of a variant such as configs/digits.py:ve, locked.

    Raises ValueError with the line of the file at fault, and for an unknown file or variant.
    """
    file, colon, variant = str(name).partition(":")
    path = find(file)
    config = call(path, "get_config", *([variant] if colon else []))
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"{path}: get_config() must return a config; start from diffusion.config.config_dict.default_config()"
        )
    config.lock()
    return config


def title(name: str) -> str:
    """The name of a config's runs: digits_ve for configs/digits.py:ve."""
    file, _, variant = name.partition(":")
    return "_".join(filter(None, [Path(file).stem, variant]))


def call(path: Path, function: str, *arguments: Any) -> Any:
    """What a function of a file returns; None if it has none. Raises ValueError with the line of the file at fault."""
    if str(ROOT) not in sys.path:  # configs import each other as configs.NAME
        sys.path.insert(0, str(ROOT))
    try:
        defined = runpy.run_path(str(path)).get(function)
        return defined(*arguments) if defined else None
    except Exception as error:
        raise ValueError(_fault(path, error)) from error


def explain(config: ConfigDict) -> str:
    """Every key with its value and its sentence; * marks what differs from the default."""
    lines = ["Every config key, as --config.KEY=VALUE sets it; * marks a value that is not the default.", ""]
    for key, value in flatten(config).items():
        row = KEYS[key]
        changed = "" if value == row.default else f"   * default {row.default!r}"
        choices = f" ({row.legal.text})" if key in CHOICES else ""
        readers = f" Read where {row.read_by[0]} is {' or '.join(row.read_by[1]) or 'set'}." if row.read_by else ""
        lines += [f"{key} = {value!r}{changed}", indented(row.doc + choices + readers)]
    return "\n".join(lines)


def indented(text: str) -> str:
    """Text wrapped to the width of a page under an indent."""
    return textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ")


def _fault(path: Path, error: Exception) -> str:
    """One line on what is wrong with a config file, and in which of its lines."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines, reason = [error.lineno], error.msg
    elif "ml_collections" in frames[-1].filename and (unknown := UNKNOWN_KEY.match(str(error))):
        best = closest_name(unknown[1], KEYS)
        reason = f"{unknown[1]!r} is not a config key" + (f"; did you mean config.{best}?" if best else "")
    return f"{path}{f', line {lines[-1]}' if lines else ''}: {reason}"
