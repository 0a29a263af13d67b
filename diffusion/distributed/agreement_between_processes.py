"""What processes compare and decide together: equal facts at the start, values of process 0, mistakes of any one.

What one process alone observes, such as the contents of a folder or a full disk, must not decide what is run: process
0 decides, or all together. With a single process these functions change nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather as all_gather


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. All processes must call it."""
    return bool(np.any(all_gather(np.int32(flag))))


def shared(value: int) -> int:
    """The value of process 0, in every process. All processes must call it."""
    return int(all_gather(np.int32(value))[0])


def require_same(facts: Mapping[str, Any]) -> None:
    """Raises ValueError in every process, naming the first fact whose text differs from process 0's and where.

    All processes must call it, with facts of the same names.
    """
    digests = [np.frombuffer(hashlib.sha256(str(value).encode()).digest(), np.uint8) for value in facts.values()]
    everywhere = all_gather(np.stack(digests))
    for process, i in np.argwhere(np.any(everywhere != everywhere[0], axis=-1)):
        name = list(facts)[i]
        raise ValueError(
            f"process {process} differs from process 0 in {name}, which is {facts[name]} in process "
            f"{jax.process_index()}; start all with one command, installation and copy of the data"
        )


@contextmanager
def mistakes_shared() -> Iterator[None]:
    """A block in which a process may find a mistake of the user (ValueError, OSError): then all processes raise.

    All processes must enter it, and none may compute with others inside.
    """
    mistake = None
    try:
        yield
    except (ValueError, OSError) as error:
        mistake = error
    failed = all_gather(np.int32(mistake is not None))
    if mistake:
        raise mistake
    if failed.any():
        raise ValueError(f"process {failed.argmax()} found an error, which it prints; all processes end")
