"""--config of a script: a file of configs/ with overrides of any key, by ml_collections' config flags.

    CONFIG = config_flag.define_config("configs/digits.py")         # defines --config and --explain
    config = CONFIG.value                                           # in main: validated and locked

Any key can be set over the file: --config.optim.lr=1e-4, --config.net.attention=16,8, --noconfig.data.flip.
"""

import re
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from diffusion.config.config_dict import default_config, lookup
from diffusion.config.config_files import load, title
from diffusion.config.validation import validate

FILE = re.compile(r"--?config(?:=(.*))?", re.DOTALL)
OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)", re.DOTALL)


class ConfigFlag:
    """--config with its overrides, as `run` reads them; without a file, only the overrides count.

    keys: those that may be overridden, where not all may.
    """

    def __init__(self, file: str | None, keys: Sequence[str] = ()) -> None:
        self.file, self.keys = file, keys
        self.value: ConfigDict = default_config()
        """The config: validated and locked."""
        self.name = ""
        """Name of the config's runs, such as digits or digits_ve."""
        self.overrides: dict[str, Any] = {}
        """The keys set on the command line."""

    def parse(self, program: str, args: Sequence[str]) -> list[str]:
        """Reads the config and its overrides; returns the other arguments. Raises ValueError or flags.Error."""
        file, rest = self.file, []
        waiting = iter(args)
        for arg in waiting:
            if override := OVERRIDE.match(arg):
                row = lookup(override[1])
                if self.keys and override[1] not in self.keys:
                    raise ValueError(f"config.{override[1]} is fixed in a run; only {', '.join(self.keys)} can be set")
                if isinstance(row.default, tuple):  # absl joins the values of a list that is set twice: the last counts
                    name, equals, text = arg.partition("=")
                    if not equals and (text := next(waiting, None)) is None:
                        raise ValueError(f"Missing value for flag {name}")
                    arg = f"{name}={text or '()'}"
                    rest = [other for other in rest if other.partition("=")[0].lstrip("-") != name.lstrip("-")]
            if self.file is None or not (match := FILE.fullmatch(arg)):
                rest.append(arg)
            elif (file := match[1] if match[1] is not None else next(waiting, None)) is None:
                raise ValueError("Missing value for flag --config")
        config = default_config() if file is None else load(file)
        fields = flags.FlagValues()
        holder = config_flags.DEFINE_config_dict("config", config, flag_values=fields, sys_argv=[program, *rest])
        rest = fields([program, *rest], known_only=True)[1:]
        self.value, self.overrides = holder.value, dict(fields["config"].override_values)  # pyright: ignore[reportAttributeAccessIssue]
        if file is not None:
            self.name = title(file)
            validate(self.value)
        return rest


DEFINED: list[ConfigFlag] = []
"""Those of the script that runs: at most one."""


def define_config(default: str = "configs/digits.py") -> ConfigFlag:
    """Defines --config, with its overrides, and --explain; once per script."""
    flags.DEFINE_string("config", default, "config file, with a variant after a colon, such as configs/digits.py:ve")
    flags.DEFINE_bool("explain", False, "print every config key with its value and meaning, and stop")
    DEFINED.append(flag := ConfigFlag(default))
    return flag


def define_overrides(keys: Sequence[str] = ()) -> ConfigFlag:
    """Lets a script that finds its configs elsewhere take --config.KEY=VALUE, of these keys or all; once per script."""
    DEFINED.append(flag := ConfigFlag(None, keys))
    return flag
