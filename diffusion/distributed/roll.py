"""What is said of the processes of a run: who is missing, who differs from process 0."""

from collections.abc import Mapping
from typing import Any

BEAT = 5.0
"""Seconds between signs of life."""

SILENCE = 60.0
"""Seconds without one after which a process counts as gone: a host that lost power or network says nothing."""

PATIENCE = 3.0
"""Seconds for which a report waits for another that explains it: the end of one process is an error in the others."""

SIGHT = 10.0
"""Seconds within which a file that another host wrote must be seen."""

STOPPED = 75
"""Exit status of a run that goes on when it is started again; training.stop has the same."""

GONE = STOPPED
"""Exit status of the others when a process has gone."""

NAMED = 5
"""So many processes are named, of more that are missing their number."""

MOST = 2**20
"""Bytes of a message."""

Hellos = Mapping[int, Mapping[str, Any]]
"""process -> what it said of itself: host, pid, of, facts."""


def who(hellos: Hellos, process: int) -> str:
    """A process and its host."""
    return f"process {process} ({hellos[process]['host']})"


def missing(hellos: Hellos, n: int, limit: float) -> str:
    """Which of n processes have not come, in a line; empty if all have."""
    absent = [process for process in range(n) if process not in hellos]
    if not absent:
        return ""
    named = ", ".join(map(str, absent[:NAMED])) + (f" and {len(absent) - NAMED} more" if len(absent) > NAMED else "")
    hosts = sorted({str(hello["host"]) for hello in hellos.values()})
    there = f"; there are {len(hellos)}, on {', '.join(hosts[:NAMED])}" + (", ..." if len(hosts) > NAMED else "")
    which = f"process {named} has" if len(absent) == 1 else f"processes {named} have"
    return (
        f"{which} not come within {limit:.0f} s, of {n}{there if hosts else ''}: start all of them, or see their logs"
    )


def differing(hellos: Hellos) -> str:
    """In what a process is about to run something else than process 0, in a line; empty if none is."""
    own = hellos[0]["facts"]
    for process, hello in sorted(hellos.items()):
        facts = hello["facts"]
        for name in sorted(own.keys() | facts.keys()):
            if own.get(name) != facts.get(name):
                return (
                    f"{who(hellos, process)} differs from process 0 ({hellos[0]['host']}): {name} is "
                    f"{facts.get(name)!r} there and {own.get(name)!r} here; start all with one command and installation"
                )
    return ""
