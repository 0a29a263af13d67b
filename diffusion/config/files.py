"""From a config file and what the command line sets over it to a config; every mistake is a ValueError in one line."""

import re
import runpy
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from diffusion.config.config import flatten, lookup
from diffusion.config.ranges import nearest
from diffusion.config.schema import CHOICES, KEYS

ROOT = Path(__file__).resolve().parents[2]


def integers(text: str) -> tuple[int, ...]:
    """ "16,8", "(16, 8)" and "[16, 8]" alike; "()" and "" are empty."""
    return tuple(int(part) for part in text.strip().strip("()[]").split(",") if part.strip())


PARSERS = {
    bool: (flags.BooleanParser().parse, "true or false"),
    int: (int, "an integer"),
    float: (float, "a number"),
    str: (str, "text"),
    tuple: (integers, "a list of integers, such as 16 or 16,8 or ()"),
}

UNKNOWN_KEY = re.compile(r"""\W*(?:Key )?[\\"']+(\w+)[\\"']""")
"""How a ConfigDict begins to complain of a key that it does not have; it goes on with all of its values."""


def find(given: str, flag: str = "--config", folder: str = "configs") -> Path:
    """The config file as named from here or, failing that, from the project's root; ValueError if there is none."""
    for path in (Path(given), ROOT / given):
        if path.is_file():
            return path
    here = [f"{folder}/{path.name}" for path in sorted((ROOT / folder).glob("[!_]*.py"))]
    best = nearest(given, here)
    hint = f"did you mean {best}?" if best else f"there are {', '.join(here)}"
    raise ValueError(f"{flag}={given}: no such file; {hint}")


def load(path: Path) -> ConfigDict:
    """What get_config() of a config file returns, locked; ValueError with the line of the file that went wrong."""
    config = call(path, "get_config")
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"{path}: get_config() must return a config; start from diffusion.config.config.default_config()"
        )
    config.lock()
    return config


def call(path: Path, function: str, *arguments: Any) -> Any:
    """What a function of a file returns, None if it has none; ValueError with the line of the file that went wrong."""
    if (
        str(ROOT) not in sys.path
    ):  # a config imports diffusion.config.config, and may import its neighbours as configs.NAME
        sys.path.insert(0, str(ROOT))
    try:
        found = runpy.run_path(str(path)).get(function)
        return found(*arguments) if found else None
    except Exception as error:
        raise ValueError(_fault(path, error)) from error


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets a key from the text of --config.KEY=TEXT. Raises ValueError for an unknown key or the wrong type."""
    default = lookup(key).default
    parse, wanted = PARSERS[type(default)]
    try:
        value = parse(text)
    except ValueError as error:
        raise ValueError(f"config.{key}: {text!r} is not {wanted}; the default is {default!r}") from error
    config.update_from_flattened_dict({key: value})


def explain(config: ConfigDict) -> str:
    """Every key with its value and its sentence; * marks what differs from the default."""
    lines = ["Every config key, as --config.KEY=VALUE sets it; * marks a value that is not the default.", ""]
    for key, value in flatten(config).items():
        row = KEYS[key]
        changed = "" if value == row.default else f"   * default {row.default!r}"
        choices = f" ({row.legal.text})" if key in CHOICES else ""
        lines += [f"{key} = {value!r}{changed}", indented(row.doc + choices)]
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
    elif "ml_collections" in frames[-1].filename and (named := UNKNOWN_KEY.match(str(error))):
        best = nearest(named[1], KEYS)
        reason = f"{named[1]!r} is not a config key" + (f"; did you mean config.{best}?" if best else "")
    return f"{path}{f', line {lines[-1]}' if lines else ''}: {reason}"
