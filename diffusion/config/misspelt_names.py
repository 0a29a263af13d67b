"""What a user may have meant by a name that does not exist: the closest of those that do."""

import difflib
from collections.abc import Iterable


def closest_name(name: str, choices: Iterable[str]) -> str | None:
    """The choice that is most similar to a misspelt name; None if none is similar.

    Config keys are compared by their last part and, with a section, as a whole too, so that a wrong or missing
    section does not hide a key.
    """

    def ratio(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()

    def similarity(choice: str) -> float:
        last = ratio(name.split(".")[-1], choice.split(".")[-1])
        return (last + ratio(name, choice)) / 2 if "." in name else last

    best = max(choices, key=similarity, default=None)
    return best if best is not None and similarity(best) >= 0.6 else None


def suggestion(name: str, choices: Iterable[str]) -> str:
    """ "did you mean NAME?" or, where no choice is similar, all of them."""
    best = closest_name(name, choices)
    return f"did you mean {best}?" if best else f"there are {', '.join(choices)}"
