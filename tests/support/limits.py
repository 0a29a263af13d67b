"""A reader of files run in a process of its own, on files that would crash it or exhaust the machine."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS, MEGABYTES = 5, 500
"""What a hostile file may cost."""

PROGRAM = """
import resource, sys, time
from pathlib import Path
from {module} import {function}

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    result = {function}(Path(sys.argv[1]))
except ValueError as error:
    print(error)
    result = None
del result
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024)
"""


def refusal_within_limits(reader: str, path: Path) -> str:
    """The message of the ValueError that a reader ("package.module.function") raises, asserted to be one line, and to
    come within SECONDS of processor time and MEGABYTES beyond what the imports take."""
    module, function = reader.rsplit(".", 1)
    command = [sys.executable, "-c", PROGRAM.format(module=module, function=function), str(path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-500:]}"
    *lines, last = done.stdout.splitlines()
    seconds, megabytes = map(float, last.split())
    assert len(lines) == 1, lines
    assert seconds < SECONDS and megabytes < MEGABYTES, last
    return lines[0]
