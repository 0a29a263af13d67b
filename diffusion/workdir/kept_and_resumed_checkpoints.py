"""All checkpoints of a run: the rolling ones, of which the newest stay, and the permanent ones.

A run resumes from the newest intact step of either.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from diffusion.distributed.agreement_between_processes import shared
from diffusion.workdir.checkpoint import Checkpoints, Note
from diffusion.workdir.verify_checkpoint_manifest import CLASSIFIER, PERMANENT, ROLLING

Report = Callable[[str], None]
"""Prints one line of the report."""


class PermanentCheckpoints(Checkpoints):
    """Checkpoints that are not deleted: those whose note says "every", and the first of the lowest "score"."""

    def retained(self, notes: Mapping[int, Note]) -> Collection[int]:
        best = min(notes, key=lambda step: (notes[step].get("score", inf), step), default=None)
        return [step for step, note in notes.items() if step == best or note.get("every")]

    def best(self) -> float:
        """The lowest score of all; infinity where there is none."""
        return min((note.get("score", inf) for note in self.notes().values()), default=inf)


def resume(folders: Sequence[Checkpoints], like: Any, report: Report, only: int | None = None) -> Any | None:
    """The newest intact state of several folders, like `like`; None where no step was ever completed.

    only: the step that is wanted, instead of the newest. Steps that are skipped are reported. Raises ValueError where
    there are checkpoints and none of them is intact: a run must not start over unasked.
    """
    skipped = ""
    while True:
        stored = [(step, -i) for i, one in enumerate(folders) for step in one.steps() if only in (None, step)]
        newest, i = map(shared, max(stored, default=(-1, 0)))  # process 0 decides, and where equal the first folder
        if newest < 0:
            break
        try:
            return folders[-i].restore(newest, like)
        except ValueError as error:
            report(f"skipped     {error}")
            skipped = skipped or str(error)
    if skipped and only is not None:
        raise ValueError(skipped)
    if skipped:
        raise ValueError(
            f"{folders[0].folder.parent} holds no intact checkpoint ({skipped}): give another --workdir, or move its "
            f"folder {folders[0].folder.name} away to begin again from step 0"
        )
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
        self.rolling = Checkpoints(folder / ROLLING, keep, about, claim)
        self.permanent = PermanentCheckpoints(folder / PERMANENT, None, about, claim)
        self._both = (self.rolling, self.permanent)

    def steps(self) -> list[int]:
        """Every complete step of either folder, ascending."""
        return sorted({step for checkpoints in self._both for step in checkpoints.steps()})

    def resume(self, like: Any, report: Report) -> Any | None:
        """The newest intact state of both folders; see `resume`."""
        return resume(self._both, like, report)

    def load(self, make: Callable[[], Any], step: int | None, report: Report) -> tuple[Any, int]:
        """The state of a step, by default the newest intact one, and its number; `make` gives a state like it.

        Raises ValueError where there is no such step, it is damaged, or none is intact.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            remedy = f"it has {', '.join(map(str, steps))}" if steps else "train it by scripts/train.py first"
            if (self.folder / CLASSIFIER).is_dir():
                remedy = "it is the run of a classifier, which guides another one as --classifier"
            raise ValueError(f"{self.folder} has {wanted}; {remedy}")
        state: Any = resume(self._both, make(), report, step)
        return state, int(state.step)

    def close(self) -> list[str]:
        """Waits for the saves in progress; returns the failures that `news` has not returned yet, a line each."""
        for checkpoints in self._both:
            checkpoints.close()
        return [line for checkpoints in self._both for line in checkpoints.news()]
