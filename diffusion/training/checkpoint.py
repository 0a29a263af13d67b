"""Checkpoints of the training state, by Orbax, written in the background."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The folder `checkpoints/` of a run: one sub-folder a step, the newest `keep` of them.

    A save returns as soon as the state is copied off the device; call `close` before the process ends.
    """

    def __init__(self, folder: Path, keep: int | None = None):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def latest(self) -> int | None:
        """The newest complete step, None where there is none. A save cut short leaves nothing that counts as a step."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Every complete step, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any) -> None:
        """Starts writing the state of a step; does nothing if that step is there already."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, in the structure, shapes and shardings of `like` (arrays or ShapeDtypeStructs).

        Raises ValueError, naming the folder, where the checkpoint does not fit or cannot be read.
        """
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"checkpoint {Path(self._manager.directory) / str(step)} cannot be restored ({reason}); "
                f"steps present: {self.steps()}"
            ) from error

    def close(self) -> None:
        """Waits for writes under way and releases the folder."""
        self._manager.wait_until_finished()
        self._manager.close()
