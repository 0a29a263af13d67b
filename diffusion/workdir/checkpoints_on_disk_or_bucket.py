"""Where the steps of a folder of checkpoints lie: on a disk that every process sees, or in a bucket.

In a bucket Orbax writes and reads a folder of this machine, and whole steps are sent and fetched. A step is complete
with its manifest, which is sent last and deleted first. Process 0 alone writes, since machines share no folder; every
process fetches what it restores.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from diffusion.distributed.hosts import whole
from diffusion.runtime.bucket import Bucket
from diffusion.runtime.paths import cache_folder
from diffusion.workdir import checkpoint_manifest as manifest

DAY = 86400.0
PLAIN_KEYS = "plain_keys"
"""The entry of a manifest that says that random keys are stored as their data, as `hosts.whole` gives them."""


class Disk:
    """A folder of steps on a disk."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.written = folder
        """Where Orbax writes."""
        self.writes = True
        """Whether this process takes part in saving."""
        self.alone = False
        """Whether no other process does."""

    def prepare(self, state: Any, content: dict[str, Any]) -> Any:  # noqa: ARG002
        """What is saved of a state; may add to the content of its manifest. All processes must call it."""
        return state

    def here(self, step: int) -> Path:
        """The folder of a step on this machine. Raises OSError."""
        return self.folder / str(step)

    def send(self, folder: Path, step: int, retained: Callable[[], Collection[int]]) -> None:
        """Completes a step that is written to `folder`, and deletes those that are not retained. Raises OSError."""

    def clear(self) -> None:
        """Deletes what is no longer needed on this machine."""

    def set_aside(self, step: int) -> None:
        """Moves a step to damaged/<step>, or to damaged/<step>.1, .2, ... where that exists."""
        aside = self.folder / manifest.DAMAGED
        aside.mkdir(exist_ok=True)
        names = (f"{step}.{i}" if i else str(step) for i in range(10**6))
        (self.folder / str(step)).rename(next(aside / name for name in names if not (aside / name).exists()))


class Staged(Disk):
    """A folder of steps in a bucket."""

    def __init__(self, folder: Bucket):
        super().__init__(folder)
        self._copy: tuple[int, tempfile.TemporaryDirectory[str]] | None = None
        self._saves = False
        self._cache = cache_folder("checkpoints")
        self.written = self._cache / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        self.writes, self.alone = jax.process_index() == 0, True

    def prepare(self, state: Any, content: dict[str, Any]) -> Any:
        """The state; with several processes on the host. Empties the folder: a killed process may have left files."""
        if jax.process_count() > 1:
            state, content[PLAIN_KEYS] = whole(state), True
        self._saves = self.writes
        self.clear()
        if self._saves:
            self.written.mkdir(parents=True)
        return state

    def here(self, step: int) -> Path:
        """A copy of a step, until another is fetched or `clear` is called. Raises OSError."""
        if self._copy is None or self._copy[0] != step:
            self._drop()
            self._cache.mkdir(parents=True, exist_ok=True)
            for left in self._cache.iterdir():  # by processes that were killed
                with suppress(OSError):
                    if left.stat().st_mtime < time.time() - DAY:
                        shutil.rmtree(left)
            self._copy = step, tempfile.TemporaryDirectory(dir=self._cache, ignore_cleanup_errors=True)
            self._step(step).download(Path(self._copy[1].name))
        return Path(self._copy[1].name)

    def send(self, folder: Path, step: int, retained: Callable[[], Collection[int]]) -> None:
        """Sends a step and its manifest; then deletes the others, with what unfinished saves have sent."""
        self._step(step).upload(folder, last=manifest.NAME)
        with suppress(OSError):  # tried again after the next save
            names = {path.name for path in self.folder.iterdir() if path.name.isdigit()}
            for name in names - {str(step) for step in retained()}:
                self._step(int(name)).remove(first=manifest.NAME)

    def clear(self) -> None:
        """Deletes everything on this machine that is of this process: another one may be saving the same run."""
        self._drop()
        if self._saves:
            shutil.rmtree(self.written, ignore_errors=True)

    def set_aside(self, step: int) -> None:
        """The same; what an unfinished save has sent is deleted."""
        if manifest.exists(self._step(step)):
            super().set_aside(step)
        else:
            self._step(step).remove()

    def _step(self, step: int) -> Bucket:
        folder = self.folder / str(step)
        assert isinstance(folder, Bucket)
        return folder

    def _drop(self) -> None:
        if self._copy is not None:
            self._copy[1].cleanup()
            self._copy = None


def storage(folder: Path) -> Disk:
    """The storage of a folder."""
    return Staged(folder) if isinstance(folder, Bucket) else Disk(folder)
