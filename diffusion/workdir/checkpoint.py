"""Checkpoints of the training state in one folder: saved in the background by Orbax, verified by a manifest of hashes.

A step is written to a temporary folder, the manifest last. In a bucket Orbax writes and reads a folder of this machine,
and whole steps are sent and fetched: a step is complete with its manifest, which is sent last and deleted first;
process 0 alone writes. Orbax does not notice a flipped bit: a step is restored only if its files match the manifest.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from diffusion.distributed.agreement_between_processes import any_process, mistakes_shared, shared
from diffusion.distributed.global_arrays import whole
from diffusion.runtime.bucket_path import Bucket
from diffusion.runtime.paths import cache_folder
from diffusion.runtime.short_error_text import reason
from diffusion.workdir import orbax_save
from diffusion.workdir import verify_checkpoint_manifest as manifest
from diffusion.workdir.verify_checkpoint_manifest import PLAIN_KEYS, Damaged

Note = Mapping[str, Any]
"""JSON stored beside the state of a step."""


class Checkpoints:
    """A folder of checkpoints, one sub-folder a step.

    A save returns as soon as the state is copied; call `close` before the process ends. A save that fails leaves the
    earlier checkpoints as they are and a line in `news`. After a save all intact steps but the newest `keep` are
    deleted. `about`, such as the config, is part of every manifest. `claim` is called in the background just before a
    step is complete; where it raises, the save fails.
    """

    def __init__(
        self,
        folder: Path,
        keep: int | None = None,
        about: Mapping[str, Any] | None = None,
        claim: Callable[[], object] | None = None,
    ):
        self.folder = folder.absolute()
        self._remote = isinstance(folder, Bucket)
        local = cache_folder("checkpoints") / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self._written = local if self._remote else self.folder
        self._keep, self._about, self._claim = keep, dict(about or {}), claim
        self._intact: set[int] = set()
        self._notes: dict[int, Note] = {}
        self._damaged: set[int] = set()
        self._news: list[str] = []
        self._saving: tuple[ocp.CheckpointManager, int] | None = None

    def steps(self) -> list[int]:
        """Every step that is not known to be damaged, ascending."""
        return [step for step in manifest.steps(self.folder) if step not in self._damaged]

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
        """The notes of all steps whose manifest can be read."""
        for step in (steps := self.steps()):
            self.note(step)
        return {step: self._notes[step] for step in steps if step in self._notes}

    def retained(self, notes: Mapping[int, Note]) -> Collection[int]:
        """The steps that are not deleted after a save, of the intact ones by their notes."""
        return sorted(notes)[-self._keep :] if self._keep else notes

    def save(self, step: int, state: Any, note: Note | None = None) -> None:
        """Starts saving the state of a step and its note; does nothing if the step is stored and intact.

        Waits for the save before. A damaged step of this number is moved to damaged/ first.
        """
        if self.saved(step):
            return
        content = {"step": step, "arrays": orbax_save.arrays(state), "note": dict(note or {}), **self._about}
        manager = None
        try:
            if self._stored(step, state):
                self._intact.add(step)
                return
            if self._remote and jax.process_count() > 1:
                state, content[PLAIN_KEYS] = whole(state), True
            if not self._writes():
                return
            if self._remote:  # a killed process may have left files
                shutil.rmtree(self._written, ignore_errors=True)
                self._written.mkdir(parents=True)
            policy = None if self._remote else ocp.checkpoint_managers.CustomSteps(sorted(self._spared(content)))
            seal = partial(self._seal, content=content)
            manager = orbax_save.open_manager(self._written, step, policy, seal, alone=self._remote)
            self._saving = manager, step
            manager.save(step, args=ocp.args.StandardSave(state), force=True)
        except Exception as error:
            self._failed(manager, step, error)

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, in the structure, shapes and shardings of `like` (arrays or ShapeDtypeStructs).

        Raises ValueError, naming the folder and the reason, where the checkpoint is damaged or does not fit; the step
        does not count from then on.
        """
        try:
            with ExitStack() as stack:
                with mistakes_shared():
                    folder = stack.enter_context(self._here(step))
                    content = manifest.verified(folder, step, orbax_save.arrays(like))
                with mistakes_shared():
                    state = orbax_save.read(folder, like, content.get(PLAIN_KEYS, False))
        except Exception as error:
            self._damaged.add(step)
            raise ValueError(
                f"checkpoint {self.path(step)} cannot be restored ({reason(error)}); steps present: "
                f"{manifest.steps(self.folder)}"
            ) from error
        self._intact.add(step)
        return state

    def wait(self) -> None:
        """Waits for the save in progress."""
        if self._saving is None:
            return
        manager, step = self._saving
        try:
            manager.wait_until_finished()
            manager.close()
        except Exception as error:
            self._failed(manager, step, error)
            return
        self._saving = None
        self._intact.add(step)
        self._clear()

    def news(self) -> list[str]:
        """The failures since the last call, a line each."""
        if self._saving is not None and not self._saving[0].is_saving_in_progress():
            self.wait()
        news, self._news = self._news, []
        return news

    def saved(self, step: int) -> bool:
        """Whether every process knows the step to be stored and intact; waits for the save in progress."""
        self.wait()
        return not any_process(self._writes() and step not in self._intact)

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

    def _spared(self, content: Mapping[str, Any]) -> set[int]:
        """The steps that are not deleted: damaged ones, and of the others, with that being saved, those retained."""
        notes = self.notes()
        damaged = set(manifest.steps(self.folder)) - notes.keys()
        notes[content["step"]] = content["note"]
        return {*self.retained(notes), *damaged}

    def _writes(self) -> bool:
        """Whether this process takes part in saving."""
        return not self._remote or jax.process_index() == 0

    @contextmanager
    def _here(self, step: int) -> Iterator[Path]:
        """The folder of a step on this machine: itself, or a copy. Raises OSError."""
        path = self.path(step)
        if not isinstance(path, Bucket):
            yield path
            return
        place = cache_folder("checkpoints")
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as copy:
            path.download(Path(copy))
            yield Path(copy)

    def _seal(self, folder: Path, content: dict[str, Any]) -> None:
        """Makes a written step complete. In a bucket, deletes the others, with what unfinished saves have sent."""
        if self._claim:
            self._claim()
        manifest.write(folder, content)
        path = self.path(content["step"])
        if isinstance(path, Bucket):
            path.upload(folder, last=manifest.NAME)
            with suppress(OSError):  # tried again after the next save
                names = {place.name for place in self.folder.iterdir() if place.name.isdigit()}
                for name in names - {str(step) for step in self._spared(content)}:
                    Bucket(self.folder / name).remove(first=manifest.NAME)

    def _stored(self, step: int, state: Any) -> bool:
        """Whether a step is stored and intact; one that is not is moved aside. Process 0 decides."""
        intact = False
        with mistakes_shared():
            if jax.process_index() == 0 and self.path(step).exists():
                with suppress(Damaged), self._here(step) as folder:
                    manifest.verified(folder, step, orbax_save.arrays(state))
                    intact = step not in self._damaged
                if not intact:
                    manifest.set_aside(self.path(step))
        self._damaged.discard(step)
        self._notes.pop(step, None)
        return bool(shared(intact))

    def _failed(self, manager: ocp.CheckpointManager | None, step: int, error: Exception) -> None:
        """Records a failed save."""
        self._saving = None
        if manager is not None:
            with suppress(Exception):
                manager.close()
        self._clear()
        stored = self._intact if self._remote else self.steps()  # a bucket may be gone
        good = max((other for other in stored if other != step), default=None)
        earlier = "there is no earlier one" if good is None else f"the newest one is that of step {good}"
        self._news.append(f"WARNING     the state of step {step} could not be saved ({reason(error)}); {earlier}")

    def _clear(self) -> None:
        """Deletes what a save has written on this machine for a bucket."""
        if self._remote and self._writes():
            shutil.rmtree(self._written, ignore_errors=True)
