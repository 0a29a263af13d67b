"""The command line of every script: absl flags, --help, statuses, and errors and warnings in one line.

    if __name__ == "__main__":
        command_line.run(main)

--config is that of config_flag.py. Nothing heavy is imported here, so --help is immediate.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from diffusion.config.config_files import ROOT, explain, indented
from diffusion.runtime import config_flag
from diffusion.runtime.paths import expanded
from diffusion.runtime.signals import Stop, Stopped

TRACEBACK = "DIFFUSION_TRACEBACK"
USER_ERROR = 2
BROKEN_PIPE = 141
LONG = 1000
"""Letters of a word in a message from which on only its beginning is shown."""

HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str | Path) -> Path:
        return expanded(argument)


class _NumbersParser(flags.ListParser):
    def __init__(self, kind: Callable[[str], Any]):
        super().__init__()
        self._kind = kind

    def parse(self, argument: Any) -> list[Any]:
        try:
            return [self._kind(text) for text in super().parse(argument)]
        except ValueError as error:
            raise ValueError("give numbers, separated by commas") from error


def define_numbers(name: str, default: str, meaning: str, kind: Callable[[str], Any] = int) -> flags.FlagHolder:
    """Defines a flag whose value is a list of numbers, separated by commas."""
    return flags.DEFINE(_NumbersParser(kind), name, default, meaning)


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


def report(line: str) -> None:
    """Prints a line of progress to stderr: it appears at once and does not mix with results."""
    print(line, file=sys.stderr, flush=True)


def run(main: Callable[[], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Parses the command line, calls main, and exits: with main's status (None is 0), or with one line on stderr.

    Status 2 is a mistake of the user: in a flag or a config, a ValueError raised by this project's code, an OSError or
    a MemoryError. Errors of other kinds show their traceback, as all do with DIFFUSION_TRACEBACK=1 in the environment.
    130 is Ctrl-C, 143 SIGTERM; 75 a run that was stopped by either and resumes when started again. A second signal ends
    the process at once. Each warning is printed once, in one line; a letter that the console lacks is printed as "?".
    """
    if isinstance(sys.stdout, TextIOWrapper):  # not what a notebook or a test puts there
        sys.stdout.reconfigure(errors="replace")
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
        if traceback_wanted() or (isinstance(error, ValueError) and not _own(error)):
            raise
        status = _fail(_one_line(error), USER_ERROR)
    sys.exit(status)


def traceback_wanted() -> bool:
    """Whether the environment asks for tracebacks instead of lines."""
    return os.environ.get(TRACEBACK, "0") != "0"


def _parse(argv: list[str]) -> bool:
    """Sets the flags and the config; True if a page was asked for and printed."""
    args = flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=True)
    if any(arg in HELP for arg in args):
        print(_help())
        return True
    for flag in config_flag.DEFINED:
        args = flag.parse(argv[0], args)
    if extra := flags.FLAGS([argv[0], *args])[1:]:
        raise ValueError(f"{extra[0]!r} is not a flag: options are written --name=value, and --help lists them")
    if "explain" in flags.FLAGS and flags.FLAGS.explain:
        print(explain(config_flag.DEFINED[0].value))
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
    config = next(iter(config_flag.DEFINED), None)
    if config and config.keys:
        lines += ["", f"Where the data are now: {', '.join(f'--config.{key}' for key in config.keys)}"]
    elif config:
        lines += ["", "Config keys: --config.optim.lr=1e-4 --config.net.attention=16,8 --noconfig.data.flip"]
    if "explain" in flags.FLAGS:
        lines += ["  --explain prints all of them with their values and meanings. Config files are in configs/."]
    return "\n".join([*lines, "", f"With {TRACEBACK}=1 in the environment, errors show their traceback."])


def _own(error: Exception) -> bool:
    """Whether an error was raised by this project's code, or by absl, which reads the command line."""
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return "absl" in origin.parts or (origin.is_relative_to(ROOT) and "site-packages" not in origin.parts)


def _one_line(error: Exception) -> str:
    """The message in one line; for an error of the system, with its type and how to see where it arose."""
    words = (word if len(word) < LONG else f"{word[:100]}..." for word in str(error).split())
    message = " ".join(words) or type(error).__name__
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
