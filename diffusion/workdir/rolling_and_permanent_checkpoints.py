"""All checkpoints of a run: the rolling ones, of which the newest stay, and the permanent ones.

A run resumes from the newest intact step of either.
"""

from collections.abc import Callable, Collection, Mapping
from math import inf
from pathlib import Path
from typing import Any

import jax

from diffusion.distributed.hosts import shared
from diffusion.runtime.error_text import reason
from diffusion.workdir import checkpoint_manifest as manifest
from diffusion.workdir.checkpoint import Checkpoints, Note
from diffusion.workdir.checkpoint_manifest import PERMANENT, ROLLING

Report = Callable[[str], None]
"""Prints one line of the report."""


class PermanentCheckpoints(Checkpoints):
    """Checkpoints that are not deleted: those whose note says "every", and the one with the lowest "score"."""

    def __init__(self, folder: Path, about: Mapping[str, Any] | None = None, claim: Callable[[], object] | None = None):
        super().__init__(folder, about=about, retain=periodic_and_best, claim=claim)

    def best(self) -> float:
        """The lowest score of all; infinity where there is none."""
        return min((note.get("score", inf) for note in self.notes().values()), default=inf)


def periodic_and_best(notes: Mapping[int, Note]) -> Collection[int]:
    """The steps whose note says "every", and the first of those with the lowest "score"."""
    best = min(notes, key=lambda step: (notes[step].get("score", inf), step), default=None)
    return [step for step, note in notes.items() if step == best or note.get("every")]


def resume(checkpoints: Checkpoints, like: Any, report: Report) -> Any | None:
    """The newest intact state of one folder, like `like`; None where no step was ever completed. Reports what it skips.

    Raises ValueError where there are steps and none is intact.
    """
    wrong = ""
    while (step := checkpoints.latest()) is not None:
        try:
            return checkpoints.restore(step, like)
        except ValueError as error:
            wrong = wrong or str(error)
            report(f"skipped     {error}")
    if wrong:
        raise ValueError(wrong)
    return None


class RunCheckpoints:
    """The folders checkpoints/ and kept/ of a run; the arguments are those of Checkpoints."""

    def __init__(
        self,
        folder: Path,
        keep: int | None = None,
        about: Mapping[str, Any] | None = None,
        claim: Callable[[], object] | None = None,
    ):
        self.folder = folder
        self.rolling = Checkpoints(folder / ROLLING, keep, about, claim=claim)
        self.permanent = PermanentCheckpoints(folder / PERMANENT, about, claim)
        self._both = (self.rolling, self.permanent)
        self._reported: set[str] = set()

    def steps(self) -> list[int]:
        """Every complete step of either folder, ascending."""
        return sorted({step for checkpoints in self._both for step in checkpoints.steps()})

    def resume(self, like: Any, report: Report) -> Any | None:
        """The newest intact state, like `like`; None where no step was ever completed. Skipped steps are reported.

        Raises ValueError where there are checkpoints and none of them is intact: a run must not start over unasked.
        """
        while (choice := self._newest(like, report)) is not None:
            checkpoints, step = choice
            try:
                return checkpoints.restore(step, like)
            except ValueError as error:
                checkpoints.reject(step, reason(error.__cause__ or error))
        return None

    def load(self, make: Callable[[], Any], step: int | None, report: Report) -> tuple[Any, int]:
        """The state of a step, by default the newest intact one, and its number; `make` gives a state like it.

        Raises ValueError where there is no such step, it is damaged, or none is intact.
        """
        stored = [(checkpoints, checkpoints.steps()) for checkpoints in self._both]
        steps = sorted({each for _, own in stored for each in own})
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            remedy = f"it has {', '.join(map(str, steps))}" if steps else "train it by scripts/train.py first"
            raise ValueError(f"{self.folder} has {wanted}; {remedy}")
        like = make()
        if step is None:
            state = self.resume(like, report)
            if state is None:
                raise ValueError(f"{self.folder} has no checkpoint")
            return state, int(state.step)
        holders = [checkpoints for checkpoints, own in stored if step in own]
        for checkpoints in holders[:-1]:
            try:
                return checkpoints.restore(step, like), step
            except ValueError as error:
                report(f"skipped     {error}")
        return holders[-1].restore(step, like), step

    def close(self) -> list[str]:
        """Waits for the saves in progress; returns the failures that `news` has not returned yet, a line each."""
        for checkpoints in self._both:
            checkpoints.close()
        return [line for checkpoints in self._both for line in checkpoints.news()]

    def _newest(self, like: Any, report: Report) -> tuple[Checkpoints, int] | None:
        """The newest step that can be restored, as process 0 finds it; None where no step was ever completed."""
        code, wrong = -1, ""
        if jax.process_index() == 0:
            try:
                choice = self._search(like, report)
                code = -1 if choice is None else 2 * choice[1] + choice[0]
            except ValueError as error:
                code, wrong = -2, str(error)
        code = shared(code)
        if code == -2:
            raise ValueError(wrong or f"{self.folder} holds no intact checkpoint; process 0 reports the reason")
        return None if code == -1 else (self._both[code % 2], code // 2)

    def _search(self, like: Any, report: Report) -> tuple[int, int] | None:
        """(index of the folder, step) of the newest step that can be restored; None where no step was ever completed.

        Reports what it skips. Raises ValueError where there are checkpoints and none is intact.
        """
        first = ""
        stored = sorted(((step, -i) for i in (0, 1) for step in manifest.steps(self._both[i].folder)), reverse=True)
        for step, i in stored:
            checkpoints = self._both[-i]
            wrong = checkpoints.fault(step, like)
            if not wrong:
                return -i, step
            line = f"{checkpoints.folder.name}/{step}: {wrong}"
            if line not in self._reported:
                report(f"skipped     {line}")
                self._reported.add(line)
            checkpoints.reject(step, wrong)
            first = first or line
        if not any(step or manifest.exists(self._both[-i].path(step)) for step, i in stored):
            return None
        raise ValueError(
            f"{self.folder} holds no intact checkpoint ({first}): give another --workdir, or move its folder "
            f"{ROLLING} away to begin again from step 0"
        )
