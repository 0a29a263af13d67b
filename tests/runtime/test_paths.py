"""Paths and seeds as a user may give them: ~, empty ones, no home folder, names that are not UTF-8."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from absl import flags

from diffusion.data.cifar10 import cifar10
from diffusion.runtime import bucket_path, command_line, paths

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
ENDINGS = {"grid": ".png", "png": "", "npz": ".npz"}
NO_PASSWD = "import pwd\n\ndef none(uid):\n    raise KeyError(uid)\n\npwd.getpwuid = none\n"
TINY = """data.name=toy:moons net.name=mlp net.channels=4 net.attention= diffusion.T=20 train.batch_size=8 train.steps=2
eval.final=false eval.quick_n=4 eval.quick_steps=2 sample.n=4 sample.preview_steps=2 compilation_cache=off"""


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


def test_no_home_is_no_reason_to_fail_where_none_is_needed(monkeypatch):
    """A user without HOME and without an entry in passwd."""

    def none(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", none)
    assert paths.expanded("a/b") == Path("a/b")
    with pytest.raises(ValueError, match="no such home folder; set HOME"):
        paths.expanded("~/x")
    folder = paths.cache_folder("a")
    assert folder == paths.cache_folder("a") and folder.is_relative_to(tempfile.gettempdir())
    with pytest.raises(ValueError, match=r"config\.data\.download"):
        cifar10(True, download=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_that_the_locale_cannot_write_as_utf8_are_refused(monkeypatch, encoding):
    """Orbax takes UTF-8: in another encoding it would write elsewhere, or fail at the first checkpoint."""
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode(encoding, "surrogateescape"))
    assert paths.expanded("runs/a") == Path("runs/a")
    for name in ("runs/\u00e9", b"runs/\xe9".decode("ascii", "surrogateescape")):
        with pytest.raises(ValueError, match=r"cannot write this name as UTF-8; set PYTHONUTF8=1"):
            paths.expanded(name)


def test_a_script_needs_no_home_and_refuses_a_name_of_another_encoding_at_once(tmp_path):
    """The real script as a user of a bare container starts it."""
    (tmp_path / "sitecustomize.py").write_text(NO_PASSWD)
    kept = {name: os.environ[name] for name in ("PATH", "JAX_DISABLE_MOST_OPTIMIZATIONS") if name in os.environ}
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = kept | ascii_alone | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    for folder, status in (("run", 0), ("\u00e9", 2)):
        command = [sys.executable, "scripts/train.py", f"--workdir={tmp_path / folder}"]
        command += [f"--config.{setting}" for setting in TINY.split()]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300)
        assert done.returncode == status, done.stderr[-2000:]
    assert b"set PYTHONUTF8=1" in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


def test_a_file_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    for path in (None, tmp_path / "new" / "a.json", bucket_path.at("memory://bucket/a.json")):
        paths.check_file("json", path)
    with pytest.raises(ValueError, match=f"^--json={tmp_path} is a folder: name a file in it"):
        paths.check_file("json", tmp_path)
    monkeypatch.setattr(paths, "writable", lambda place: place != tmp_path)
    with pytest.raises(
        ValueError, match=rf"^--json={tmp_path}/a/b: {tmp_path} cannot be written to; give another --json"
    ):
        paths.check_file("json", tmp_path / "a" / "b")


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
