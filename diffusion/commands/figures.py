"""Draws figures of the catalogue and writes them to files."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion.config.misspelt_names import suggestion
from diffusion.figures.catalogue import FIGURES
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.figures.style import SUFFIXES, save
from diffusion.runtime.paths import check_place

ALL = "all"


def draw(names: Sequence[str], inputs: Inputs, out: Path) -> Iterator[Path]:
    """The files of the figures of these names, each yielded when it is written; `out` is a folder or, for one, a file.

    With "all" the figures whose inputs are missing are left out, with a line on stderr for each. Raises ValueError for
    a name that no figure has, for a file that cannot hold what is asked for, and for a missing input.
    """
    everything = ALL in names
    if (everything or inputs.workdir) and not inputs.folder.is_dir():
        raise ValueError(f"{inputs.folder} holds no run: there is no such folder; give the --workdir of a run")
    chosen = list(FIGURES) if everything else list(dict.fromkeys(names or [""]))
    for name in chosen:
        if name not in FIGURES:
            raise ValueError(f"--figure={name} is no figure; {suggestion(name, [ALL, *FIGURES])}")
    files = {name: _files(name, out) for name in chosen}
    check_place("out", out)
    if out in files[chosen[0]] and len(chosen) > 1:
        raise ValueError(f"--out={out} is one file, but there are several figures: give a folder")
    for name in chosen:
        try:
            figure = FIGURES[name](inputs)
        except ValueError as error:
            if not everything:
                raise
            print(f"left out    {name}: {error}", file=sys.stderr)
            continue
        for path in files[name]:
            save(figure, path)
            yield path


def _files(name: str, out: Path) -> list[Path]:
    """The files of a figure in a folder, or the one file. Raises ValueError for a file of another kind."""
    kinds = (".gif",) if name == "animation" else SUFFIXES
    if not out.suffix or out.is_dir():
        return [out / f"{name}{suffix}" for suffix in kinds[:2]]
    if out.suffix.lower() not in kinds:
        raise ValueError(f"--out={out}: {name} is written as {', '.join(kinds)}; or give a folder")
    return [out]
