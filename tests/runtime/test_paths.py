"""Paths and seeds as a user may give them: ~, empty ones, no home folder."""

import os
import re
from pathlib import Path

import pytest
from absl import flags

from diffusion.runtime import command_line, paths

ROOT = Path(__file__).resolve().parents[2]
ENDINGS = {"grid": ".png", "png": "", "npz": ".npz"}


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, path in {"~": tmp_path, "~/x": tmp_path / "x", "a/~": Path("a/~")}.items():
        assert paths.expanded(text) == path
    assert paths.expanded("~root/x") == Path(os.path.expanduser("~root")) / "x"
    for text, line in {"~nobody-here/x": "no such home folder", "": "an empty path"}.items():
        with pytest.raises(ValueError, match=line):
            paths.expanded(text)


def test_the_cache_follows_the_convention(monkeypatch, tmp_path):
    """Relative paths are not valid in XDG_CACHE_HOME: programs would land in the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    usual = tmp_path / "home/.cache"
    for value, root in {str(tmp_path): tmp_path, "": usual, "~/x": tmp_path / "home/x", "cache": usual}.items():
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert paths.cache_folder("xla") == root / "diffusion" / "xla"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.cache_folder("data") == usual / "diffusion" / "data"


def test_a_missing_home_folder_is_one_line(monkeypatch):
    """A user without HOME and without an entry in passwd."""

    def none(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", none)
    assert paths.expanded("a/b") == Path("a/b")
    for missing in (lambda: paths.expanded("~/x"), lambda: paths.cache_folder("a")):
        with pytest.raises(ValueError, match="no such home folder; set HOME"):
            missing()


def test_endings_agree_with_formats(tmp_path):
    (tmp_path / "x.png").touch()
    for kind, name in [
        ("grid", "a.png"),
        ("grid", "a.PNG"),
        ("npz", "a.npz"),
        ("png", "a"),
        ("png", "v1.5"),
        ("png", ""),
    ]:
        paths.check_ending(tmp_path / name, kind, ENDINGS)
    for kind, name, line in [
        ("grid", "a.npz", "a file that ends in .png; or give another --format"),
        ("grid", "a.jpg", "a file that ends in .png"),
        ("grid", "a", "a file that ends in .png"),
        ("grid", "", "a file that ends in .png"),
        ("npz", "a.png", "a file that ends in .npz"),
        ("png", "a.NPZ", "written to a folder; or give another --format"),
        ("png", "x.png", "written to a folder"),
    ]:
        with pytest.raises(ValueError, match=line):
            paths.check_ending(tmp_path / name, kind, ENDINGS)


def test_seeds_are_32_bits_and_paths_are_expanded_in_every_script():
    """Every flag that is a seed or a path is of its kind."""
    assert all('"seed",' not in path.read_text() for path in (ROOT / "scripts").glob("*.py"))
    named = re.compile(r'DEFINE_string\(\s*"(workdir|out|samples|file|json|separate|milestones|inception)", None')
    assert not [path.name for path in (ROOT / "scripts").glob("*.py") if named.search(path.read_text())]
    before = set(flags.FLAGS)
    seed, path = command_line.define_seed("of the test"), command_line.define_path("place", "of the test")
    try:
        flags.FLAGS(["x", "--seed=4294967295", "--place=~/x"])
        assert seed.value == 2**32 - 1 and path.value == Path("~/x").expanduser()
        for wrong in ("--seed=4294967296", "--seed=-1", f"--seed={2**63}", "--seed=1e3", "--place="):
            with pytest.raises(flags.IllegalFlagValueError):
                flags.FLAGS(["x", wrong])
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
