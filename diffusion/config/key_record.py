"""What is stated about each key of a config: the record of which config/schema.py is a table."""

from enum import Enum
from typing import Any, NamedTuple

from diffusion.config.legal_values import Legal


class Role(Enum):
    """What a key affects."""

    TRAINING = "what is trained: a resumed run must keep it"
    RESULT = "how long training lasts, what is sampled and measured: a resumed run may change it"
    CONDUCT = "how the work is done and reported: it changes no result"
    DATA = "where the data set is on this machine: it changes no result"
    MACHINE = "the process alone: it changes no result, and it is ignored when the run is read by another process"


class Key(NamedTuple):
    """One row of the table."""

    default: Any
    legal: Legal
    doc: str
    role: Role = Role.TRAINING
    read_by: tuple[str, tuple[str, ...]] | None = None
    """(another key, its values that read this one); None: it is always read."""
