"""The command line of every script: absl flags, a config with overrides by ml_collections, and errors in one line.

    CONFIG = command_line.define_config("configs/digits.py")        # defines --config and --explain

    def main() -> None:
        config = CONFIG.value                              # validated and locked

    if __name__ == "__main__":
        command_line.run(main)

Any key can be set over the file: --config.optim.lr=1e-4, --config.net.attention=16,8, --noconfig.data.flip. Nothing
heavy is imported here, so --help is immediate.
"""

import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from diffusion.config.config_dict import default_config, lookup
from diffusion.config.config_files import ROOT, explain, indented, load, title
from diffusion.config.validation import validate
from diffusion.runtime.paths import expanded
from diffusion.runtime.signals import Stop, Stopped

TRACEBACK = "DIFFUSION_TRACEBACK"
USER_ERROR = 2
BROKEN_PIPE = 141

FILE = re.compile(r"--?config(?:=(.*))?", re.DOTALL)
OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)", re.DOTALL)
HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


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


_defined: list[ConfigFlag] = []


def define_config(default: str = "configs/digits.py") -> ConfigFlag:
    """Defines --config, with its overrides, and --explain; once per script."""
    flags.DEFINE_string("config", default, "config file, with a variant after a colon, such as configs/digits.py:ve")
    flags.DEFINE_bool("explain", False, "print every config key with its value and meaning, and stop")
    _defined.append(flag := ConfigFlag(default))
    return flag


def define_overrides(keys: Sequence[str] = ()) -> ConfigFlag:
    """Lets a script that finds its configs elsewhere take --config.KEY=VALUE, of these keys or all; once per script."""
    _defined.append(flag := ConfigFlag(None, keys))
    return flag


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str | Path) -> Path:
        return expanded(argument)


def define_path(name: str, meaning: str) -> flags.FlagHolder[Path | None]:
    """Defines a flag whose value is a path, with ~ as the home folder; None where it is not given."""
    return flags.DEFINE(_PathParser(), name, None, meaning)  # pyright: ignore[reportReturnType, reportArgumentType]


def required(workdir: Path | None) -> Path:
    """The value of --workdir where a script reads a run. Raises ValueError where it is not given."""
    if workdir is None:
        raise ValueError("--workdir is required: the folder of a run of scripts/train.py, such as runs/digits")
    return workdir


def define_seed(meaning: str) -> flags.FlagHolder[int]:
    """Defines --seed, by default 0. Random keys are made of 32 bits, so larger numbers would repeat others."""
    return flags.DEFINE_integer("seed", 0, meaning, lower_bound=0, upper_bound=2**32 - 1)


def run(main: Callable[[], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Parses the command line, calls main, and exits: with main's status (None is 0), or with one line on stderr.

    Status 2 is a mistake of the user: in a flag or a config, a ValueError raised by this project's code, an OSError or
    a MemoryError. Errors of other kinds show their traceback, as all do with DIFFUSION_TRACEBACK=1 in the environment.
    130 is Ctrl-C, 143 SIGTERM; 75 a run that was stopped by either and resumes when started again. A second signal ends
    the process at once. Each warning is printed once, in one line.
    """
    printed: set[str] = set()
    warnings.simplefilter("always", UserWarning)
    warnings.showwarning = lambda message, *_, **__: _warn(str(message), printed)
    try:
        with Stop.on_signals():
            status = 0 if _parse(list(sys.argv if argv is None else argv)) else main()
            sys.stdout.flush()
    except BrokenPipeError:  # such as `... --explain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except Stopped as error:
        status = _fail(str(error), error.status)
    except (ValueError, OSError, MemoryError, flags.Error) as error:
        if os.environ.get(TRACEBACK, "0") != "0" or (isinstance(error, ValueError) and not _own(error)):
            raise
        status = _fail(_one_line(error), USER_ERROR)
    sys.exit(status)


def _parse(argv: list[str]) -> bool:
    """Sets the flags and the config; True if a page was asked for and printed."""
    args = flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=True)
    if any(arg in HELP for arg in args):
        print(_help())
        return True
    for flag in _defined:
        args = flag.parse(argv[0], args)
    if extra := flags.FLAGS([argv[0], *args])[1:]:
        raise ValueError(f"{extra[0]!r} is not a flag: options are written --name=value, and --help lists them")
    if "explain" in flags.FLAGS and flags.FLAGS.explain:
        print(explain(_defined[0].value))
        return True
    return False


def _help() -> str:
    """The script's docstring, its flags and, where it has one, what a config is."""
    registered = flags.FLAGS.flags_by_module_dict()
    ours = sorted(name for name in registered if name.startswith(__package__ or ""))
    own = [flag for module in (sys.argv[0], *ours) for flag in registered.get(module, [])]
    lines = [(sys.modules["__main__"].__doc__ or sys.argv[0]).strip(), "", "Flags:"]
    for flag in own:
        default = "" if flag.default in (None, "", False) else f" (default {flag.default})"
        lines += [f"  --{flag.name}", indented(f"{flag.help}{default}")]
    if _defined and _defined[0].keys:
        lines += ["", f"Where the data are now: {', '.join(f'--config.{key}' for key in _defined[0].keys)}"]
    elif _defined:
        lines += ["", "Config keys: --config.optim.lr=1e-4 --config.net.attention=16,8 --noconfig.data.flip"]
    if "explain" in flags.FLAGS:
        lines += ["  --explain prints all of them with their values and meanings. Config files are in configs/."]
    return "\n".join([*lines, "", f"With {TRACEBACK}=1 in the environment, errors show their traceback."])


def _own(error: Exception) -> bool:
    """Whether an error was raised by this project's code."""
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return origin.is_relative_to(ROOT) and "site-packages" not in origin.parts


def _one_line(error: Exception) -> str:
    """The message in one line; for an error of the system, with its type and how to see where it arose."""
    message = " ".join(str(error).split()) or type(error).__name__
    if _own(error) or isinstance(error, flags.Error):
        return message
    return f"{type(error).__name__}: {message} ({TRACEBACK}=1 shows where)"


def _warn(message: str, printed: set[str]) -> None:
    """Prints a warning as a line of the report, once; Python's own filters forget it where a library changes them."""
    if message not in printed:
        printed.add(message)
        print(f"WARNING     {message}", file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    return status
