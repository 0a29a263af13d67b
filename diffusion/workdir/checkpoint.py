"""Checkpoints of the training state, by Orbax, written in the background and sealed by a manifest.

A step counts once its manifest is written, after everything else; nothing that does not match its manifest is restored.
"""

import shutil
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from diffusion.distributed.hosts import any_process
from diffusion.runtime.errors import reason
from diffusion.workdir import manifest
from diffusion.workdir.background import copied, make_folder_in, patiently, remove, shares_processors
from diffusion.workdir.manifest import Damaged
from diffusion.workdir.quiet import quiet
from diffusion.workdir.structure import ITEM, arrays, difference, read

DRAFT = "*.orbax-checkpoint-tmp*"
DAMAGED = "damaged"


def numbers(folder: Path) -> list[int]:
    """The steps that a folder has sub-folders of, whatever they are worth, ascending."""
    found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(name) for name in found if name.isascii() and name.isdigit() and name == str(int(name)))


class Checkpoints:
    """A folder of checkpoints: one sub-folder a step, the newest `keep` of them.

    A save returns as soon as the state is copied off the device; call `close` before the process ends. One that fails
    leaves the earlier ones as they are and a line in `news`. `about`, such as the config, is put into every manifest.
    With sealed=False steps without a manifest are taken as they are: those of a run from before there were any. What
    its state did not have then is taken from the state that it is restored like.
    """

    def __init__(
        self, folder: Path, keep: int | None = None, sealed: bool = True, about: Mapping[str, Any] | None = None
    ):
        self.folder = Path(folder).absolute()
        self._keep, self._sealed, self._about = keep, sealed, dict(about or {})
        self._good: set[int] = set()
        self._bad: dict[int, str] = {}
        self._news: list[str] = []
        self._writer: ocp.AsyncCheckpointer | None = None
        self._sealing: threading.Thread | None = None

    def latest(self) -> int | None:
        """The newest finished step, None where there is none."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """Every finished step that is not known to be damaged, ascending."""
        return [step for step in numbers(self.folder) if self._finished(step) and step not in self._bad]

    def path(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / str(step)

    def note(self, step: int) -> dict[str, Any]:
        """What was put down beside the state of a step; empty where there is none."""
        try:
            return manifest.read(self.path(step)).get("note", {})
        except Damaged:
            return {}

    def save(self, step: int, state: Any, note: Mapping[str, Any] | None = None) -> None:
        """Starts writing the state of a step and what is noted beside it (JSON); does nothing if it is there, intact.

        Waits for the save before. What is there of this step and not intact is moved to damaged/ first.
        """
        if self.saved(step):
            return
        content = {"step": step, "arrays": arrays(state), "note": dict(note or {}), **self._about}
        try:
            if self._has(step, state):
                self._good.add(step)
                return
            if self._writer is None:
                quiet()
                options = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.folder.name)
                handler = ocp.CompositeCheckpointHandler()
                self._writer = ocp.AsyncCheckpointer(handler, multiprocessing_options=options)
            if jax.process_count() == 1:
                make_folder_in(self.folder)
            finish = self._begin(self._writer, step, state)
        except Exception as error:
            self._failed(step, error)
            return
        self._sealing = threading.Thread(target=self._seal, args=(finish, step, content), name="seal")
        self._sealing.start()

    def writing(self) -> bool:
        """Whether a save is still going on."""
        return self._sealing is not None and self._sealing.is_alive()

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, in the structure, shapes and shardings of `like` (arrays or ShapeDtypeStructs).

        Raises ValueError, naming the folder and the reason, where the checkpoint is damaged or does not fit.
        """
        wrong = self.fault(step, like)
        if not any_process(bool(wrong)):
            try:
                state = read(self.path(step), like, older=not manifest.finished(self.path(step)))
            except Exception as error:
                state, wrong = None, reason(error)
            if not any_process(bool(wrong)):
                self._good.add(step)
                return state
        self._bad[step] = wrong = wrong or "another process could not read it"
        raise ValueError(
            f"checkpoint {self.path(step)} cannot be restored ({wrong}); steps present: {numbers(self.folder)}"
        )

    def fault(self, step: int, like: Any) -> str:
        """Why a step cannot be restored into the structure of `like`, in one line; empty if it can. Reads all of it."""
        path = self.path(step)
        if step in self._bad:
            return self._bad[step]
        if not self._sealed and not manifest.finished(path):
            return ""
        wrong = manifest.fault(path)
        if wrong:
            return wrong
        content = manifest.read(path)
        if content["step"] != step:
            return f"it is step {content['step']} under another name"
        return difference(content["arrays"], arrays(like))

    def reject(self, step: int, why: str) -> None:
        """Does not count a step from now on; a new one of its number moves it aside."""
        self._bad[step] = why

    def wait(self) -> None:
        """Waits for a write under way."""
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None

    def news(self) -> list[str]:
        """What went wrong in the background since this was last asked, a line each."""
        said, self._news = self._news, []
        return said

    def saved(self, step: int) -> bool:
        """Whether the state of a step is known to be there, intact, to all processes; waits for a write under way."""
        self.wait()
        return not any_process(step not in self._good)

    def require(self, step: int, state: Any, note: Mapping[str, Any] | None = None) -> None:
        """Returns once the state of a step is saved, trying once more if need be. Raises ValueError where it cannot."""
        if not self.saved(step):
            self.save(step, state, note)
        if not self.saved(step):
            last = "; ".join(self.news()) or f"the state of step {step} could not be saved"
            raise ValueError(f"{last.removeprefix('WARNING').strip()}; make room and start again to go on from there")

    def close(self) -> None:
        """Waits for writes under way and releases the folder."""
        self.wait()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _has(self, step: int, state: Any) -> bool:
        """Whether a step is there, intact; what is there and is not is out of the way then."""
        found, error = 0, None
        if jax.process_index() == 0 and self.path(step).exists():
            try:
                found = 0 if self.fault(step, state) else 1
                if not found:
                    self._set_aside(step)
            except OSError as problem:
                found, error = 2, problem
        found = shared(found)
        if found == 2:
            raise error or OSError("process 0 could not move a damaged one aside")
        return found == 1

    def _finished(self, step: int) -> bool:
        return not self._sealed or manifest.finished(self.path(step))

    def _begin(self, writer: ocp.AsyncCheckpointer, step: int, state: Any) -> Callable[[], None]:
        """Begins a write, or leaves all but a copy of the state to what it returns; that ends it."""
        later = shares_processors(state)
        args = ocp.args.Composite(**{ITEM: ocp.args.StandardSave(copied(state) if later else state)})
        write, finish = partial(writer.save, self.path(step), args=args), writer.wait_until_finished
        if later:
            return partial(patiently, write, finish)
        write()
        return finish

    def _seal(self, finish: Callable[[], None], step: int, content: dict[str, Any]) -> None:
        """In the background: ends the write, hashes what was written, and makes room."""
        try:
            finish()
            if jax.process_index() == 0:
                manifest.write(self.path(step), content)
        except Exception as error:
            self._failed(step, error)
            if jax.process_index() == 0 and self.path(step).exists():
                shutil.rmtree(self.path(step), ignore_errors=True)
            return
        self._good.add(step)
        self._bad.pop(step, None)
        if jax.process_index() == 0:
            for old in self.surplus():
                shutil.rmtree(self.path(old), ignore_errors=True)
                self._good.discard(old)
            for draft in self.folder.glob(DRAFT):
                shutil.rmtree(draft, ignore_errors=True)

    def surplus(self) -> list[int]:
        """Steps to delete once another is sealed: the oldest of the finished ones; never the newest."""
        return self.steps()[: -self._keep] if self._keep else []

    def _failed(self, step: int, error: Exception) -> None:
        """A save that came to nothing: what there is of it is deleted, the room may be needed."""
        newest = max((good for good in self.steps() if good != step), default=None)
        there = "there is no earlier one" if newest is None else f"the newest one is that of step {newest}"
        self._news.append(f"WARNING     the state of step {step} could not be saved ({reason(error)}); {there}")
        self._writer = None
        if jax.process_index() == 0:
            for draft in self.folder.glob(f"{step}{DRAFT}"):
                remove(draft)

    def _set_aside(self, step: int) -> None:
        """Moves what there is of a step to damaged/<step>, or <step>.1, .2, ... where there is one already."""
        aside = self.folder / DAMAGED
        aside.mkdir(exist_ok=True)
        names = (f"{step}.{i}" if i else str(step) for i in range(10**6))
        self.path(step).rename(next(aside / name for name in names if not (aside / name).exists()))
        self._bad.pop(step, None)


def shared(value: int) -> int:
    """The value of process 0, in every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
