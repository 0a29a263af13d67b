"""The frame of every script: flags, a config with its overrides, and errors in one line.

    CONFIG = cli.define_config("configs/digits.py")        # defines --config and --explain

    def main() -> None:
        config = CONFIG.value                              # checked and locked

    if __name__ == "__main__":
        cli.run(main)

Any key can be set over the file: --config.optim.lr=1e-4, --config.net.attention=16,8, --noconfig.data.flip. The syntax
is that of ml_collections.config_flags, whose parser answers an unknown key or a faulty file with a traceback; ours
answers in one line. Nothing heavy is imported here, so --help is immediate.
"""

import ast
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict

from diffusion.config.config import lookup
from diffusion.config.files import ROOT, explain, find, indented, load, override
from diffusion.config.ranges import nearest
from diffusion.config.schema import KEYS
from diffusion.config.validation import validate
from diffusion.runtime.signals import Stop, Stopped

TRACEBACK = "DIFFUSION_TRACEBACK"
USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

OVERRIDE = re.compile(r"--?(no)?config\.([^=]*)(=.*)?", re.DOTALL)


class ConfigFlag:
    """What --config and its overrides come to; filled in by `run`."""

    def __init__(self) -> None:
        self._parsed: tuple[ConfigDict, Path] | None = None

    def parse(self, given: str, overrides: Sequence[tuple[str, str]]) -> None:
        """Reads the file, sets the overrides, validates and locks. Raises ValueError in one line."""
        path = find(given)
        config = load(path)
        for key, text in overrides:
            override(config, key, text)
        validate(config)
        self._parsed = config, path

    @property
    def value(self) -> ConfigDict:
        """The config: validated and locked."""
        assert self._parsed is not None, "a config is known only inside run(main)"
        return self._parsed[0]

    @property
    def name(self) -> str:
        """The file's name without folder and ending, which names the run's folder: "cifar10"."""
        assert self._parsed is not None, "a config is known only inside run(main)"
        return self._parsed[1].stem


class Overrides:
    """The keys set by --config.KEY=VALUE, as (key, text), for a script without --config; filled in by `run`."""

    def __init__(self) -> None:
        self.value: list[tuple[str, str]] = []


_defined: list[ConfigFlag | Overrides] = []


def define_config(default: str = "configs/digits.py") -> ConfigFlag:
    """Defines --config, with its overrides, and --explain; once per script."""
    flags.DEFINE_string("config", default, "config file; any key can be set with --config.KEY=VALUE")
    flags.DEFINE_bool("explain", False, "print every config key with its value and meaning, and stop")
    _defined.append(flag := ConfigFlag())
    return flag


def define_overrides() -> Overrides:
    """Lets a script that finds its configs elsewhere take --config.KEY=VALUE; once per script."""
    _defined.append(flag := Overrides())
    return flag


def run(main: Callable[[], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Parses the command line, calls main, and exits: with main's status (None is 0), or with one line on stderr.

    Status 2 is a mistake that its line explains: in a flag or a config, or a ValueError, OSError or MemoryError out of
    main. 130 is Ctrl-C, 143 SIGTERM; 75 a run that was stopped by either and goes on when started again. A second
    signal ends the process at once. Warnings are one line each, said once. With DIFFUSION_TRACEBACK=1 in the
    environment the traceback is shown instead of the line.
    """
    said: set[str] = set()
    warnings.simplefilter("always", UserWarning)
    warnings.showwarning = lambda message, *_, **__: _warn(str(message), said)
    try:
        with Stop.on_signals():
            status = 0 if _parse(list(sys.argv if argv is None else argv)) else main()
            sys.stdout.flush()
    except BrokenPipeError:  # such as `... --explain | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except Stopped as error:
        status = _fail(str(error), error.status)
    except KeyboardInterrupt:
        status = _fail("interrupted", INTERRUPTED)
    except (ValueError, OSError, MemoryError, flags.Error) as error:
        if os.environ.get(TRACEBACK, "0") != "0":
            raise
        status = _fail(_one_line(error), USER_ERROR)
    sys.exit(status)


def _parse(argv: list[str]) -> bool:
    """Sets the flags and the config; True if that was all, because a page was asked for."""
    args = flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=True)
    if any(arg in ("--help", "-help", "-h", "--helpfull", "--helpshort") for arg in args):
        print(_help())
        return True
    overrides, rest = _split(args) if _defined else ([], args)
    try:
        extra = flags.FLAGS([argv[0], *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        keys = [f"config.{key}" for key in KEYS] if _defined else []
        best = nearest(error.flagname, [*flags.FLAGS, *keys])
        hint = f"; did you mean --{best}?" if best else "; --help lists the flags"
        raise ValueError(f"--{error.flagname}: no such flag{hint}") from error
    if extra:
        raise ValueError(f"{extra[0]!r} is not a flag: options are written --name=value, and --help lists them")
    for flag in _defined:
        if isinstance(flag, Overrides):
            flag.value = overrides
            continue
        flag.parse(flags.FLAGS.config, overrides)
        if flags.FLAGS.explain:
            print(explain(flag.value))
            return True
    return False


def _split(args: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The overrides among the arguments, as (key, text), and the rest. A value may follow its key after a space."""
    overrides, rest, waiting = [], [], iter(args)
    for arg in waiting:
        if arg == "--":
            return overrides, [*rest, arg, *waiting]
        if not (match := OVERRIDE.fullmatch(arg)):
            rest.append(arg)
            continue
        negated, key, value = match.groups()
        is_flag = isinstance(lookup(key).default, bool)
        if negated and not (is_flag and value is None):
            raise ValueError(f"{arg}: --noconfig.KEY turns off a true-or-false key and takes no value")
        if value is None and not is_flag:
            value = next(waiting, None)
            if value is None:
                raise ValueError(f"--config.{key} needs a value: --config.{key}=...")
            value = "=" + value
        overrides.append((key, value[1:] if value is not None else str(not negated).lower()))
    return overrides, rest


def _help() -> str:
    """The script's docstring, its flags and, where it has one, what a config is."""
    registered = flags.FLAGS.flags_by_module_dict()
    own = [flag for module in (sys.argv[0], __name__) for flag in registered.get(module, [])]
    lines = [(sys.modules["__main__"].__doc__ or sys.argv[0]).strip(), "", "Flags:"]
    for flag in own:
        default = "" if flag.default in (None, "", False) else f" (default {flag.default})"
        lines += [f"  --{flag.name}", indented(f"{flag.help}{default}")]
    if _defined:
        lines += ["", "Config keys: --config.optim.lr=1e-4 --config.net.attention=16,8 --noconfig.data.flip"]
    if "explain" in flags.FLAGS:
        lines += ["  --explain prints all of them with their values and meanings. Config files:"]
        for path in sorted((ROOT / "configs").glob("*.py")):
            doc = ast.get_docstring(ast.parse(path.read_text())) or ""
            lines += [f"  configs/{path.name:20} {doc.partition(chr(10))[0]}"]
    return "\n".join([*lines, "", f"With {TRACEBACK}=1 in the environment, errors show their traceback."])


def _one_line(error: Exception) -> str:
    """The message in one line; for an error that arose outside the project's own code, with its type and what to do."""
    message = " ".join(str(error).split()) or type(error).__name__
    origin = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = Path(origin).is_relative_to(ROOT) and "site-packages" not in Path(origin).parts
    if ours or isinstance(error, flags.Error):
        return message
    return f"{type(error).__name__}: {message} ({TRACEBACK}=1 shows where)"


def _warn(message: str, said: set[str]) -> None:
    """A warning as one line of the console report, the first time that it comes."""
    if message not in said:
        said.add(message)
        print(f"WARNING     {message}", file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    return status
