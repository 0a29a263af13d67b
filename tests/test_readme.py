"""README.md and docs/: paths and imports exist, commands have flags that their scripts take, the map is the package."""

import importlib
import re
from pathlib import Path

import pytest

from diffusion.config import config_files
from tests.support.script_flags import flags_of
from tests.test_layers import rank

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PATH = re.compile(r"(?<![\w/.-])((?:diffusion|configs|scripts|tests|docs)/[\w/]+\.(?:py|md|png|gif|ipynb))")
LINK = re.compile(r"\]\(([^)#:]+)\)")
IMPORT = re.compile(r"^ *from (diffusion[\w.]*) import ([\w, ]+?)(?: as \w+)?$", re.MULTILINE)
COMMAND = re.compile(r"^ {4,}python (scripts/\w+\.py)((?:[^\\\n#]|\\\n)*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page):
    text = page.read_text()
    missing = [path for path in PATH.findall(text) if not (ROOT / path).exists() and not Path(path).stem.isupper()]
    missing += [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_import_is_possible(page):
    for module, names in IMPORT.findall(page.read_text()):
        for name in names.split(", "):
            if not hasattr(importlib.import_module(module), name):
                importlib.import_module(f"{module}.{name}")


COMMANDS = [(page.name, *found) for page in PAGES for found in COMMAND.findall(page.read_text())]


@pytest.mark.parametrize(("page", "script", "arguments"), COMMANDS, ids=range(len(COMMANDS)))
def test_every_command_is_one_that_its_script_takes(page, script, arguments):  # noqa: ARG001
    used = re.findall(r"--(\w[\w.]*)", arguments)
    assert {flag for flag in used if not flag.startswith("config.")} <= flags_of(script)
    for name in re.findall(r"--config=(configs/[\w/]+\.py(?::\w+)?)", arguments):
        config_files.load(name)


def test_the_map_names_every_folder():
    named = re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE)
    folders = [path.parent.name for path in (ROOT / "diffusion").glob("*/__init__.py")]
    assert sorted(named) == sorted(folders)
    assert named == sorted(named, key=rank)  # "a folder imports only from folders above it"


def test_the_table_of_configs_has_their_numbers_of_steps():
    rows = re.findall(r"^\| `configs/.*\|(.*) steps.*\|$", README, re.MULTILINE)
    assert len(rows) >= 6
    for line in README.splitlines():
        if line.startswith("| `configs/") and (cost := re.search(r"\|([^|]*[\d.][kM]) steps[^|]*\|$", line)):
            stated = [float(x) * {"k": 1e3, "M": 1e6}[unit] for x, unit in re.findall(r"([\d.]+)([kM])", cost[1])]
            files = [f"configs/{name}.py" for name in re.findall(r"`(?:configs/)?(\w+)\.py`", line)]
            steps = [config_files.load(file).train.steps for file in files]
            assert (min(steps), max(steps)) == (min(stated), max(stated)), line
