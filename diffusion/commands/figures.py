"""Draws figures of the catalogue and writes them to files."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion.config.misspelt_names import suggestion
from diffusion.core import respacing
from diffusion.figures.catalogue import FIGURES
from diffusion.figures.loaded_run import Inputs
from diffusion.figures.style import save

ALL = "all"


def draw(names: Sequence[str], inputs: Inputs, out: Path) -> Iterator[Path]:
    """The files of the figures of these names, each yielded when it is written; `out` is a folder or, for one, a file.

    With "all" the figures whose inputs are missing are left out, with a line on stderr for each missing input. Raises
    ValueError for a name that no figure has, for a file that cannot hold what is asked for, and for a missing input.
    """
    everything = ALL in names
    if (everything or inputs.workdir) and not inputs.folder.is_dir():
        raise ValueError(f"{inputs.folder} holds no run: there is no such folder; give the --workdir of a run")
    if inputs.grid is not None:
        respacing.parse(inputs.grid)
    chosen = list(FIGURES) if everything else _choose(names)
    files, missing = _files(chosen, everything, out), {}
    for name in chosen:
        try:
            figure = FIGURES[name].draw(inputs)
        except ValueError as error:
            if not everything:
                raise
            missing.setdefault(str(error), []).append(name)
            continue
        for path in files[name]:
            save(figure, path)
            yield path
    for reason, left_out in missing.items():
        print(f"left out    {', '.join(left_out)}: {reason}", file=sys.stderr)


def _choose(names: Sequence[str]) -> list[str]:
    """The names, each once. Raises ValueError for one that no figure has."""
    for name in names or [""]:
        if name not in FIGURES:
            raise ValueError(f"--figure={name} is no figure; {suggestion(name, ['all', *FIGURES])}")
    return list(dict.fromkeys(names))


def _files(names: Sequence[str], everything: bool, out: Path) -> dict[str, list[Path]]:
    """The files of each figure. Raises ValueError for a file of another kind, or of several figures."""
    if not out.suffix or out.is_dir():
        return {name: [out / f"{name}{suffix}" for suffix in FIGURES[name].kinds[:2]] for name in names}
    if everything or len(names) > 1:
        raise ValueError(f"--out={out} is one file, but there are several figures: give a folder")
    if out.suffix.lower() not in (kinds := FIGURES[names[0]].kinds):
        raise ValueError(f"--out={out}: {names[0]} is written as {', '.join(kinds)}; or give a folder")
    return {names[0]: [out]}
