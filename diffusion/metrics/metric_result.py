"""What a metric of a sample set gives."""

from typing import Any, NamedTuple


class Score(NamedTuple):
    """The numbers of one metric, and what it prints."""

    name: str
    """Of the result."""
    values: dict[str, float]
    lines: list[str]
    facts: dict[str, Any]
    """What the numbers depend on, apart from the samples."""
    series: dict[str, list[float]] = {}  # noqa: RUF012
