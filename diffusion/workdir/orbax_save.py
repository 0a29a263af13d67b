"""How this project uses Orbax: one item a step, saved in the background, by a manager for each save."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from diffusion.runtime.short_error_text import reason

ITEM = "default"
"""Orbax's name of the single item in a checkpoint."""
TEMPORARY = ".orbax-checkpoint-tmp*"
"""What Orbax appends to the name of a step that is not complete."""


def open_manager(
    folder: Path, step: int, policy: Any, finish: Callable[[Path], None], alone: bool = False
) -> ocp.CheckpointManager:
    """A manager for one save: of `step`, after which it deletes the other steps that `policy` does not preserve.

    `finish` is called in the background with the temporary folder of the step, before that gets its final name; where
    it raises, the save fails. Orbax adds two files of its own to the top of the folder after that. Temporary folders
    that a killed process or a failed save left behind are deleted. Managers are not reused: a new one reads the folder
    as it is, and none has to recover from a failure.

    alone: only process 0 saves, in an empty folder of its own.
    """

    def callback() -> None:
        (temporary,) = folder.glob(f"{step}{TEMPORARY}")
        finish(temporary)

    logger = logging.getLogger("absl")
    if _is_no_traceback_of_orbax not in logger.filters:
        logger.addFilter(_is_no_traceback_of_orbax)
    background = ocp.options.AsyncOptions(post_finalization_callback=callback, create_directories_asynchronously=False)
    together = ocp.options.MultiprocessingOptions(
        active_processes={0} if alone and jax.process_count() > 1 else None, barrier_sync_key_prefix=folder.name
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        cleanup_tmp_directories=True,
        lightweight_initialize=True,
        save_root_metadata=False,
        async_options=background,
        multiprocessing_options=together,
        create=not alone,
    )
    return ocp.CheckpointManager(folder, options=options)


def read(folder: Path, like: Any, plain: bool = False) -> Any:
    """The state in the folder of a step, in the structure, shapes and shardings of `like`. Raises ValueError.

    plain: it was saved with the data of random keys in their place (global_arrays.whole).
    """

    def stored(x: Any) -> Any:
        return jax.random.key_data(x) if plain and jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    def restored(x: Any, like: Any) -> Any:
        return jax.random.wrap_key_data(x) if x.dtype != like.dtype else x

    shapes = jax.eval_shape(lambda tree: jax.tree.map(stored, tree), like)
    target = jax.tree.map(lambda x, y: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=y.sharding), shapes, like)
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
            state = reader.restore(folder / ITEM, args=ocp.args.StandardRestore(target))
    except Exception as error:
        raise ValueError(reason(error)) from error
    return jax.tree.map(restored, state, like)


def arrays(state: Any) -> dict[str, list[Any]]:
    """{path: [dtype, shape]} of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): [str(x.dtype), list(x.shape)] for path, x in leaves}


def _is_no_traceback_of_orbax(record: logging.LogRecord) -> bool:
    """A filter of the log: whoever saves reports a failure in one line, so Orbax's own report of it is dropped."""
    return not (record.exc_info and Path(ocp.__file__).parent in Path(record.pathname).parents)
