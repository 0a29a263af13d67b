"""The flags of the scripts."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def flags_of(name: str) -> set[str]:
    """Those that --help of a script lists."""
    done = subprocess.run([sys.executable, SCRIPTS / name, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^  --(\w+)$", done.stdout, re.MULTILINE))
