"""Checkpoints of the training state in one folder: saved in the background by Orbax, verified by a manifest of hashes.

A step is written to a temporary folder, and the manifest last, before that gets its final name; in a bucket it is
complete with its manifest (checkpoints_on_disk_or_bucket.py). Orbax does not notice a flipped bit in the arrays, so a
step is restored only if all of its files match the manifest.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from diffusion.distributed.hosts import any_process, shared
from diffusion.runtime.bucket import THREADS
from diffusion.runtime.error_text import reason
from diffusion.workdir import checkpoint_manifest as manifest
from diffusion.workdir import orbax_save
from diffusion.workdir.checkpoint_manifest import Damaged
from diffusion.workdir.checkpoints_on_disk_or_bucket import PLAIN_KEYS, storage

Note = Mapping[str, Any]
"""JSON stored beside the state of a step."""
Retain = Callable[[Mapping[int, Note]], Collection[int]]
"""Chooses which of the intact steps, by their notes, are not deleted after a save."""


def newest(count: int | None, notes: Mapping[int, Note]) -> Collection[int]:
    """The newest `count` steps; None: all."""
    return sorted(notes)[-count:] if count else notes


class Checkpoints:
    """A folder of checkpoints, one sub-folder a step.

    A save returns as soon as the state is copied; call `close` before the process ends. A save that fails leaves the
    earlier checkpoints as they are and a line in `news`. After a save the intact steps that `retain` does not choose
    are deleted; by default all but the newest `keep` are. `about`, such as the config, is part of every manifest.
    `claim` is called in the background just before a step is complete; where it raises, the save fails.
    """

    def __init__(
        self,
        folder: Path,
        keep: int | None = None,
        about: Mapping[str, Any] | None = None,
        retain: Retain | None = None,
        claim: Callable[[], object] | None = None,
    ):
        self.folder = folder.absolute()
        self._storage = storage(self.folder)
        self._retain, self._about, self._claim = retain or partial(newest, keep), dict(about or {}), claim
        self._intact: set[int] = set()
        self._notes: dict[int, Note] = {}
        self._damaged: dict[int, str] = {}
        self._news: list[str] = []
        self._saving: tuple[ocp.CheckpointManager, int, dict[str, Any]] | None = None

    def latest(self) -> int | None:
        """The newest complete step; None where there is none."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """Every complete step that is not known to be damaged, ascending."""
        return [step for step in manifest.complete(self.folder) if step not in self._damaged]

    def path(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / str(step)

    def note(self, step: int) -> Note:
        """The note stored with a step; empty where there is none."""
        if step not in self._notes:
            try:
                self._notes[step] = manifest.read(self.path(step)).get("note", {})
            except Damaged:
                return {}
        return self._notes[step]

    def notes(self) -> dict[int, Note]:
        """The notes of all steps; in a bucket each is a request, so they are read in threads."""
        steps = self.steps()
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(steps, pool.map(self.note, steps), strict=True))

    def save(self, step: int, state: Any, note: Note | None = None) -> None:
        """Starts saving the state of a step and its note; does nothing if the step is stored and intact.

        Waits for the save before. A damaged or unfinished step of this number is moved to damaged/ first.
        """
        if self.saved(step):
            return
        content = {"step": step, "arrays": orbax_save.arrays(state), "note": dict(note or {}), **self._about}
        manager = None
        try:
            if self._stored(step, state):
                self._intact.add(step)
                return
            state = self._storage.prepare(state, content)
            if not self._storage.writes:
                return
            seal, alone = partial(self._seal, content=content), self._storage.alone
            manager = orbax_save.open_manager(self._storage.written, step, self, seal, alone)
            self._saving = manager, step, content
            manager.save(step, args=ocp.args.StandardSave(state), force=True)
        except Exception as error:
            self._failed(manager, step, error)

    def writing(self) -> bool:
        """Whether a save is in progress."""
        return self._saving is not None and self._saving[0].is_saving_in_progress()

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, in the structure, shapes and shardings of `like` (arrays or ShapeDtypeStructs).

        Raises ValueError, naming the folder and the reason, where the checkpoint is damaged or does not fit.
        """
        wrong, state = self.fault(step, like), None
        if not any_process(bool(wrong)):
            try:
                folder = self._storage.here(step)
                state = orbax_save.read(folder, like, manifest.read(folder).get(PLAIN_KEYS, False))
            except Exception as error:
                wrong = reason(error)
            if not any_process(bool(wrong)):
                self._intact.add(step)
                self._storage.clear()
                return state
        self._damaged[step] = wrong = wrong or "another process could not read it"
        raise ValueError(
            f"checkpoint {self.path(step)} cannot be restored ({wrong}); steps present: {manifest.steps(self.folder)}"
        )

    def fault(self, step: int, like: Any) -> str:
        """Why a step cannot be restored into the structure of `like`, in one line; empty if it can. Reads all of it."""
        if step in self._damaged:
            return self._damaged[step]
        try:
            folder = self._storage.here(step)
        except OSError as error:
            return f"it cannot be read ({reason(error)})"
        if wrong := manifest.fault(folder):
            return wrong
        content = manifest.read(folder)
        if content["step"] != step:
            return f"it is step {content['step']} under another name"
        return manifest.difference(content["arrays"], orbax_save.arrays(like))

    def reject(self, step: int, wrong: str) -> None:
        """Excludes a step from now on; a new save of its number moves it aside."""
        self._damaged[step] = wrong

    def wait(self) -> None:
        """Waits for the save in progress."""
        if self._saving is None:
            return
        manager, step, _ = self._saving
        try:
            manager.wait_until_finished()
            manager.close()
        except Exception as error:
            self._failed(manager, step, error)
            return
        self._saving = None
        self._intact.add(step)
        self._damaged.pop(step, None)
        self._storage.clear()

    def news(self) -> list[str]:
        """The failures since the last call, a line each."""
        if self._saving is not None and not self.writing():
            self.wait()
        news, self._news = self._news, []
        return news

    def saved(self, step: int) -> bool:
        """Whether every process knows the step to be stored and intact; waits for the save in progress."""
        self.wait()
        return not any_process(self._storage.writes and step not in self._intact)

    def require(self, step: int, state: Any, note: Note | None = None) -> None:
        """Returns once the state of a step is saved; tries once more after a failure, then raises ValueError."""
        for _ in range(2):
            if not self.saved(step):
                self.save(step, state, note)
        if not self.saved(step):
            failure = "; ".join(dict.fromkeys(self.news())) or f"the state of step {step} could not be saved"
            raise ValueError(
                f"{failure.removeprefix('WARNING').strip()}; make room and start again to resume from there"
            )

    def close(self) -> None:
        """Waits for the save in progress."""
        self.wait()
        self._storage.clear()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:  # noqa: ARG002
        """Orbax's preservation policy. Intact steps that `retain` does not choose are deleted; damaged ones stay."""
        notes, retained = self._retained()
        return [info.step in retained or info.step not in notes for info in checkpoints]

    def _retained(self) -> tuple[dict[int, Note], set[int]]:
        """The notes of the intact steps, with that being saved, and those of the steps that are retained."""
        notes = self.notes()
        if self._saving is not None:
            notes[self._saving[1]] = self._saving[2]["note"]
        return notes, set(self._retain(notes))

    def _seal(self, folder: Path, content: dict[str, Any]) -> None:
        """Makes a written step complete."""
        if self._claim:
            self._claim()
        manifest.write(folder, content)
        self._storage.send(folder, content["step"], lambda: self._retained()[1] | self._damaged.keys())

    def _stored(self, step: int, state: Any) -> bool:
        """Whether a step is stored and intact; one that is not is moved aside. Process 0 decides."""
        code, error = 0, None
        if jax.process_index() == 0:
            try:
                if self.path(step).exists():
                    code = 0 if self.fault(step, state) else 1
                    if not code:
                        self._storage.set_aside(step)
                        self._damaged.pop(step, None)
                        self._notes.pop(step, None)
            except OSError as problem:
                code, error = 2, problem
        code = shared(code)
        if code == 2:
            raise error or OSError("process 0 could not move a damaged one aside")
        return code == 1

    def _failed(self, manager: ocp.CheckpointManager | None, step: int, error: Exception) -> None:
        """Records a failed save and deletes its partial files, whose room may be needed."""
        self._saving = None
        if manager is not None:
            with suppress(Exception):
                manager.close()
        stored = self._intact if self._storage.alone else self.steps()  # a bucket may be gone
        good = max((other for other in stored if other != step), default=None)
        earlier = "there is no earlier one" if good is None else f"the newest one is that of step {good}"
        self._news.append(f"WARNING     the state of step {step} could not be saved ({reason(error)}); {earlier}")
        if jax.process_index() == 0:
            orbax_save.remove_temporary(self._storage.written, step)
