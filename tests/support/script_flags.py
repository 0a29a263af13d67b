"""The flags of the scripts."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def flags_of(script: str) -> set[str]:
    """Those that --help of a script lists, such as scripts/evaluate.py."""
    done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^  --(\w+)", done.stdout, re.MULTILINE))
