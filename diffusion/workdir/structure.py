"""The structure of a saved training state as text, so that another one is told apart before it is read; and reading."""

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

ITEM = "default"
"""Orbax's name of the one item in a checkpoint."""


def arrays(state: Any) -> dict[str, list[Any]]:
    """{path: [dtype, shape]} of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): [str(x.dtype), list(x.shape)] for path, x in leaves}


def difference(there: dict[str, list[Any]], here: dict[str, list[Any]]) -> str:
    """The first array in which two states differ, in one line; empty if there is none."""
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            kinds = (f"{kind[0]} {kind[1]}" if kind else "absent" for kind in (there.get(name), here.get(name)))
            return "it holds another state: {} is {} there and {} here".format(name, *kinds)
    return ""


def read(folder: Path, like: Any, older: bool = False) -> Any:
    """A state as Orbax has it, in the structure, shapes and shardings of `like`, unchecked. Raises what Orbax raises.

    older: whole fields of a NamedTuple `like` that the folder does not have keep their value.
    """
    fields = _fields(folder) if older else set()
    partial = {name: getattr(like, name) for name in getattr(like, "_fields", ()) if name in fields}
    less = older and 0 < len(partial) < len(like)
    wanted = partial if less else like
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), wanted)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        found = reader.restore(folder, args=ocp.args.Composite(**{ITEM: ocp.args.StandardRestore(target)}))[ITEM]
    return like._replace(**found) if less else found


def _fields(folder: Path) -> set[str]:
    """The names of the fields that a saved state has."""
    tree = json.loads((folder / ITEM / "_METADATA").read_bytes())["tree_metadata"]
    return {str(leaf["key_metadata"][0]["key"]) for leaf in tree.values()}
