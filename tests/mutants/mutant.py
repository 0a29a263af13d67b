"""One deliberate fault, and a short way to write several of one file."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change to one file, and a test that must fail by it."""

    file: str
    old: str
    """Occurs exactly once in the file."""
    new: str
    test: str
    """path::function"""
    fault: str
    """The fault in a few words."""


def mutants(file: str, home: str, *changes: tuple[str, str, str, str]) -> tuple[Mutant, ...]:
    """The mutants of one file from (old, new, test, fault); a test without a path stands in the file `home`."""
    return tuple(
        Mutant(file, old, new, test if "::" in test else f"{home}::{test}", fault) for old, new, test, fault in changes
    )
