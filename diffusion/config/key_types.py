"""A config key: its default, its legal values, one kind of range a function, what it does and what it affects."""

import math
import re
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

INT32 = 2**31 - 1
"""Steps and counts are int32 on the device."""


class Legal(NamedTuple):
    """The legal values of a key: a test, and the words that complete "... is not"."""

    text: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()
    """The names to choose from, if any; one ending in ":" takes any non-empty text after it."""


class Role(Enum):
    """What a key affects."""

    TRAINING = "what is trained: a resumed run must keep it"
    RESULT = "how long training lasts, what is sampled and measured: a resumed run may change it"
    CONDUCT = "how the work is done and reported, and where the data are: it changes no result"
    MACHINE = "the process alone: it changes no result, and it is ignored when the run is read by another process"


class Key(NamedTuple):
    """One row of the table."""

    default: Any
    legal: Legal
    doc: str
    role: Role = Role.TRAINING
    read_by: tuple[str, tuple[str, ...]] | None = None
    """(another key, its values that read this one; none: all but 0, false and ""); None: it is always read."""


def whole(low: int, high: int = INT32, even: bool = False) -> Legal:
    """An integer, or an even one, from low to high."""
    text = f"an {'even ' * even}integer " + (f"of at least {low}" if high == INT32 else f"from {low} to {high}")
    return Legal(text, lambda value: _is_whole(value) and low <= value <= high and not (even and value % 2))


def number(text: str, within: Callable[[float], bool] = lambda value: True) -> Legal:  # noqa: ARG005
    """A finite number of a range."""

    def accepts(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return is_number and within(value)

    return Legal(text, accepts)


REAL = number("a number of either sign")
POSITIVE = number("a number above 0", lambda value: value > 0)
FROM_ZERO = number("a number of at least 0", lambda value: value >= 0)
SHARE = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
BELOW_1 = number("a number of at least 0 and below 1", lambda value: 0 <= value < 1)
BETWEEN_0_AND_1 = number("a number above 0 and below 1", lambda value: 0 < value < 1)
FLAG = Legal("true or false", lambda value: isinstance(value, bool))


def text(what: str, form: str = r"[^\0]*") -> Legal:
    """Text of a form, by default any, which is checked where it is used; `what` completes "... is not"."""
    return Legal(what, lambda value: isinstance(value, str) and re.fullmatch(form, value) is not None)


def wholes(high: int, may_be_empty: bool) -> Legal:
    """A tuple of integers from 1 to high."""
    text = f"a list of integers from 1 to {high}, such as 16 or 16,8" + (" or () for none" if may_be_empty else "")

    def accepts(value: Any) -> bool:
        whole = isinstance(value, tuple) and all(_is_whole(v) and 1 <= v <= high for v in value)
        return whole and (may_be_empty or len(value) > 0)

    return Legal(text, accepts)


def one_of(*names: str, empty: bool = False) -> Legal:
    """One of the names; a name that ends in ":" is a prefix and needs something after it; `empty` allows ""."""
    prefixes = tuple(name for name in names if name.endswith(":"))
    exact = {name for name in names if name not in prefixes} | ({""} if empty else set())

    def accepts(value: Any) -> bool:
        if not isinstance(value, str) or "\0" in value:
            return False
        return value in exact or any(value.startswith(p) and value != p for p in prefixes)

    shown = [name + "..." if name in prefixes else name for name in names] + (["'' (none)"] if empty else [])
    return Legal("one of " + ", ".join(shown), accepts, names)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
