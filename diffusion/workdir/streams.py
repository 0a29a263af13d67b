"""The two streams of a run's checkpoints: the newest, for going on, and those that are kept for good.

Where the newest is damaged the run goes on from the newest intact one of either.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from diffusion.runtime.errors import reason
from diffusion.workdir import manifest
from diffusion.workdir.checkpoint import Checkpoints, numbers, shared

ROLLING, KEPT = "checkpoints", "kept"


class Kept(Checkpoints):
    """Checkpoints for good: those whose note says "every", and of all the one with the lowest "score"."""

    def surplus(self) -> list[int]:
        """The ones that are neither."""
        notes = {step: self.note(step) for step in self.steps()}
        best = min(notes, key=lambda step: (notes[step].get("score", float("inf")), step), default=None)
        return [step for step, note in notes.items() if step != best and not note.get("every")]

    def best(self) -> float:
        """The lowest score noted; infinity where there is none."""
        return min((self.note(step).get("score", float("inf")) for step in self.steps()), default=float("inf"))


class Streams:
    """The folders checkpoints/ and kept/ of a run; the arguments are those of Checkpoints."""

    def __init__(
        self, folder: Path, keep: int | None = None, sealed: bool = True, about: Mapping[str, Any] | None = None
    ):
        self.folder = folder
        self.rolling = Checkpoints(folder / ROLLING, keep, sealed, about)
        self.kept = Kept(folder / KEPT, None, True, about)
        self._both = (self.rolling, self.kept)
        self._said: set[str] = set()

    def steps(self) -> list[int]:
        """Every finished step of either stream, ascending."""
        return sorted({step for stream in self._both for step in stream.steps()})

    def resume(self, like: Any, say: Callable[[str], None]) -> Any | None:
        """The newest intact state; None where nothing was saved yet. What is skipped is said, with the reason.

        Raises ValueError where there are checkpoints, and none of them is intact: a run must not start over unasked.
        """
        while (choice := self._choose(like, say)) is not None:
            stream, step = choice
            try:
                return stream.restore(step, like)
            except ValueError as error:
                stream.reject(step, reason(error.__cause__ or error))
        return None

    def load(self, make: Callable[[], Any], step: int | None, say: Callable[[str], None]) -> tuple[Any, int]:
        """The state of a step, by default the newest intact one, and its number; `make` gives a state like it.

        Raises ValueError where there is no such step, it is damaged, or none is intact.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            remedy = f"it has {', '.join(map(str, steps))}" if steps else "train it by scripts/train.py first"
            raise ValueError(f"{self.folder} has {wanted}; {remedy}")
        like = make()
        if step is None:
            state = self.resume(like, say)
            if state is None:
                raise ValueError(f"{self.folder} has no checkpoint")
            return state, int(state.step)
        holders = [stream for stream in self._both if step in stream.steps()]
        for stream in holders[:-1]:
            try:
                return stream.restore(step, like), step
            except ValueError as error:
                say(f"skipped     {error}")
        return holders[-1].restore(step, like), step

    def close(self) -> None:
        """Waits for writes under way and releases both folders."""
        for stream in self._both:
            stream.close()

    def _choose(self, like: Any, say: Callable[[str], None]) -> tuple[Checkpoints, int] | None:
        """The newest step that can be restored, as process 0 finds it."""
        if jax.process_index() == 0:
            found = self._search(like, say)
            number = -2 if isinstance(found, str) else -1 if found is None else 2 * found[1] + found[0]
        else:
            found, number = None, 0
        number = shared(number)
        if number == -1:
            return None
        if number < 0:
            raise ValueError(found or f"{self.folder} holds no intact checkpoint; process 0 says why")
        return self._both[number % 2], number // 2

    def _search(self, like: Any, say: Callable[[str], None]) -> tuple[int, int] | str | None:
        """(stream, step) of the newest step that can be restored; None: begin anew; else why neither will do."""
        newest = ""
        found = [(step, -i) for i, stream in enumerate(self._both) for step in numbers(stream.folder)]
        for step, i in sorted(found, reverse=True):
            stream = self._both[-i]
            wrong = stream.fault(step, like)
            if not wrong:
                return -i, step
            said = f"{stream.folder.name}/{step}: {wrong}"
            if said not in self._said:
                say(f"skipped     {said}")
                self._said.add(said)
            stream.reject(step, wrong)
            newest = newest or said
        begun = {step for step, i in found if manifest.finished(self._both[-i].path(step))} | {s for s, _ in found if s}
        if not begun:
            return None
        return (
            f"{self.folder} holds no intact checkpoint ({newest}): give another --workdir, or move its folder "
            f"{ROLLING} away to begin again from step 0"
        )
