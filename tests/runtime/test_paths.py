"""Paths and seeds as a user may give them: ~, empty ones, no home folder, names and consoles that are ASCII alone."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from absl import flags

from diffusion.data import tfds
from diffusion.data.cifar10 import cifar10
from diffusion.runtime import before_jax, command_line, paths

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).resolve().parents[2]
ENDINGS = {"grid": ".png", "png": "", "npz": ".npz"}
TINY = [
    "--config.data.name=toy:moons",
    "--config.net.name=mlp",
    "--config.net.channels=4",
    "--config.net.attention=",
    "--config.diffusion.T=20",
    "--config.train.batch_size=8",
    "--config.train.steps=2",
    "--config.eval.final=false",
    "--config.eval.quick_n=4",
    "--config.eval.quick_steps=2",
    "--config.sample.n=4",
    "--config.sample.preview_steps=2",
]
NO_PASSWD = "import pwd\n\ndef none(uid):\n    raise KeyError(uid)\n\npwd.getpwuid = none\n"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def script(name, *args, **environment):
    """A script in an environment with no other variables than these and those that select one CPU."""
    kept = {key: os.environ[key] for key in ("PATH", "JAX_DISABLE_MOST_OPTIMIZATIONS") if key in os.environ}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, args)]
    env = {**kept, "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=300)


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home folder and without an entry in passwd."""

    def none(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", none)
    return monkeypatch


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, path in {"~": tmp_path, "~/x": tmp_path / "x", "a/~": Path("a/~"), "./~": Path("~")}.items():
        assert paths.expanded(text) == path
    assert paths.expanded("~root/x") == Path(os.path.expanduser("~root")) / "x"
    for text, line in {"~nobody-here/x": "write ./~nobody-here", "": "an empty path"}.items():
        with pytest.raises(ValueError, match=line):
            paths.expanded(text)
    monkeypatch.setenv("HOME", "")  # counts as unset
    assert paths.expanded("~/x").is_absolute() and paths.expanded("~/x").parent != Path("/")


def test_the_cache_follows_the_convention(monkeypatch, tmp_path):
    """Relative paths are not valid in XDG_CACHE_HOME: programs would land in the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    usual = tmp_path / "home/.cache"
    for value, root in {str(tmp_path): tmp_path, "": usual, "~/x": tmp_path / "home/x", "cache": usual}.items():
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert paths.cache_folder("xla") == root / "diffusion" / "xla"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.cache_folder("data") == usual / "diffusion" / "data"


def test_no_home_is_no_reason_to_fail_where_none_is_needed(homeless, tmp_path):
    for given in ("auto", "off"):
        assert before_jax.configure(given) is None
    homeless.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert before_jax.configure() == tmp_path / "diffusion" / "xla" and tfds.default_dir().is_relative_to(tmp_path)
    homeless.delenv("XDG_CACHE_HOME")
    homeless.delenv("JAX_COMPILATION_CACHE_DIR")
    assert paths.expanded("a/b") == Path("a/b")
    with pytest.raises(ValueError, match="there is no home folder"):
        paths.expanded("~/x")
    homeless.setattr(tempfile, "tempdir", str(tmp_path))
    assert paths.cache_folder("a") == tmp_path / f"cache-of-{os.getuid()}" / "diffusion" / "a"
    with pytest.raises(ValueError, match=r"config\.data\.download"):
        cifar10(True, download=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_that_the_locale_cannot_write_as_utf8_are_refused(monkeypatch, encoding):
    """Orbax takes UTF-8: in another encoding it would write elsewhere, or fail at the first checkpoint."""
    monkeypatch.setattr(os, "fsencode", lambda name: str(name).encode(encoding, "surrogateescape"))
    assert paths.expanded("runs/a") == Path("runs/a")
    for name in ("runs/\u00e9", os.fsdecode(b"runs/\xe9")):
        with pytest.raises(ValueError, match=r"cannot be written as UTF-8 .* PYTHONUTF8=1"):
            paths.expanded(name)
    monkeypatch.setattr(os.path, "abspath", lambda name: f"/h\u00e9/{name}")  # the working directory counts too
    with pytest.raises(ValueError, match="cannot be written as UTF-8"):
        paths.expanded("runs/a")


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
        ("grid", "a.npz", "give --format=npz"),
        ("grid", "a.jpg", "a file that ends in .png$"),
        ("grid", "a", "a file that ends in .png$"),
        ("grid", "", "is a folder; name a file"),
        ("npz", "a.png", "a file that ends in .npz; or give --format=grid"),
        ("png", "a.NPZ", "written to a folder; or give --format=npz"),
        ("png", "x.png", "written to a folder; or give --format=grid"),
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


def test_a_script_trains_without_home_locale_and_cache(tmp_path):
    """The real script as a user of a bare container starts it."""
    (tmp_path / "sitecustomize.py").write_text(NO_PASSWD)
    environment = {**ASCII, "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    programs = {"JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"]}
    done = script("train.py", *TINY, f"--workdir={tmp_path / 'run'}", **environment, **programs)
    assert done.returncode == 0, done.stderr[-2000:]
    done = script("train.py", "--workdir=runs/\u00e9", **environment)
    assert done.returncode == 2 and b"set PYTHONUTF8=1" in done.stderr and done.stderr.count(b"\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("name", "args", "line"),
    [
        ("guidance_scales.py", ["--help"], b"Fr\\xe9chet"),
        ("reproduce.py", [], b"\\u2264 3.75"),
        ("sample.py", ["--workdir=x", "--seed=4294967296"], b"--seed=4294967296"),
        ("sample.py", ["--workdir="], b"an empty path"),
        ("reproduce.py", ["--out=a.md", "--format=latex"], b"or give --format=markdown"),
    ],
)
def test_scripts_in_a_console_that_shows_ascii_alone(name, args, line):
    done = script(name, *args, **ASCII)
    assert line in done.stdout + done.stderr and b"Traceback" not in done.stderr
    assert done.returncode == (2 if done.stderr else 0)
