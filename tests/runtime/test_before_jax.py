"""What is set before jax starts: XLA's flags, memory, the folder of compiled programs, which a run never chooses."""

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion.config import default_config
from diffusion.figures.flags_and_run_for_figures import Inputs
from diffusion.runtime import before_jax
from diffusion.workdir.run_config import Run, read_run, write_config

ROOT = Path(__file__).resolve().parents[2]
CACHE = "JAX_COMPILATION_CACHE_DIR"
FLAGS = {f"--xla_gpu_{flag}" for flag in ("deterministic_ops=true", "exclude_nondeterministic_ops=true")}
FLAGS |= {"--xla_gpu_autotune_level=0"}
PROGRAM = """
import os, sys
from diffusion.runtime import before_jax

before_jax.configure("off", sys.argv[1] == "true")
assert not {"jax", "jaxlib", "jax_plugins"} & sys.modules.keys()
print(os.environ["XLA_FLAGS"])
"""


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment of its own, without a folder of compiled programs."""
    for name in (CACHE, "XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


def test_the_environment_overrides_the_config(environment, tmp_path):
    assert before_jax.configure() == tmp_path / "cache" / "diffusion" / "xla"
    environment.setenv(CACHE, "")
    assert before_jax.configure("off") is None
    assert before_jax.configure(str(tmp_path / "asked")) == tmp_path / "asked"
    environment.setenv(CACHE, str(tmp_path / "mine"))
    for asked in ("auto", "off", str(tmp_path / "asked")):
        assert before_jax.configure(asked) == tmp_path / "mine"
    assert os.environ[CACHE] == str(tmp_path / "mine")


@pytest.mark.usefixtures("environment")
def test_a_run_folder_does_not_choose_where_programs_come_from(tmp_path):
    planted = tmp_path / "planted"
    config = default_config()
    config.compilation_cache, config.data.threads = str(planted), 1000
    folder = tmp_path / "run"
    write_config(folder, Run(config, (8, 8, 1), 10), "cpu")
    assert str(planted) in (folder / "config.json").read_text()
    run = read_run(folder)
    assert (run.config.compilation_cache, run.config.data.threads) == ("auto", 8)
    assert Inputs(folder).run == run
    assert not os.environ[CACHE]


@pytest.mark.parametrize("name", ["sample", "evaluate", "guidance_scales", "export_weights", "figures", "edit"])
def test_scripts_that_read_a_run_take_no_folder_from_it(name):
    text = (ROOT / "scripts" / f"{name}.py").read_text()
    assert "compilation_cache" not in text
    assert text.index("    before_jax.configure()\n") < text.index(
        "    from diffusion.commands"
    )  # before jax is imported


def process(command, folder, **variables):
    """A command in an environment of its own, in which `folder` is searched for packages first."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    command = [sys.executable, *command]
    return subprocess.run(command, cwd=ROOT, env=env | variables, capture_output=True, text=True, timeout=200)


def gpu_flags(folder, deterministic="true", **variables):
    """XLA's flags for GPUs after the set-up of a process, which asserts that jax was not imported."""
    done = process(["-c", PROGRAM, deterministic], folder, **variables)
    assert done.returncode == 0, done.stderr
    return {flag for flag in done.stdout.split() if flag.startswith("--xla_gpu")}


def test_gpus_are_deterministic_where_the_key_says_so(tmp_path):
    """Also where libtpu is installed for plan.py; alone it is a TPU's, and reads the same variable."""
    assert gpu_flags(tmp_path) == FLAGS and gpu_flags(tmp_path, "false") == set()
    (tmp_path / "libtpu").mkdir()
    (tmp_path / "libtpu" / "__init__.py").touch()
    assert gpu_flags(tmp_path) == set()
    (tmp_path / "jax_plugins").mkdir()
    assert gpu_flags(tmp_path) == FLAGS


@pytest.mark.parametrize("name", ["train", "train_classifier", "ablate"])
def test_scripts_that_train_pass_the_key_on(name):
    text = (ROOT / "scripts" / f"{name}.py").read_text()
    assert re.search(r"before_jax\.configure\(([\w.]+)\.compilation_cache, \1\.deterministic\)", text)


def test_flags_of_the_user_are_kept_and_extended(tmp_path):
    own = {"--xla_gpu_autotune_level=4", "--xla_gpu_deterministic_ops_of_ours=1"}
    found = gpu_flags(tmp_path, XLA_FLAGS=" ".join(own))
    assert found == own | (FLAGS - {"--xla_gpu_autotune_level=0"})


def test_the_installed_series_has_the_flags(tmp_path):
    """XLA aborts on a flag that it does not know."""
    command = ["-c", "import jax; print(jax.numpy.zeros(2).sum())"]
    for flags, known in ((FLAGS, True), ({"--xla_gpu_deterministic_ops_of_ours=1"}, False)):
        done = process(command, tmp_path, JAX_PLATFORMS="cpu", XLA_FLAGS=" ".join(flags))
        assert (done.returncode == 0 and done.stdout.strip() == "0.0") == known, done.stderr[-500:]


COUNT = """
import ctypes, json, resource
from diffusion.runtime import before_jax
size, times = 100 * 2**20, 5
before_jax.keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
library.free.argtypes = (ctypes.c_void_p,)
def step():
    block = library.malloc(size)
    ctypes.memset(block, 1, size)
    library.free(block)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(times):
    step()
print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / times))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs the GNU C library")
def test_a_freed_block_is_had_again_without_page_faults(tmp_path):
    """Where CPUs compute and the user chose no allocator; otherwise every page of the block is cleared again."""

    def faults(**variables):
        done = process(["-c", COUNT], tmp_path, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    cleared = 0.9 * 100 * 2**20 / os.sysconf("SC_PAGE_SIZE")
    assert faults() < 10 and faults(JAX_PLATFORMS="cpu") < 10
    assert faults(JAX_PLATFORMS="cuda,cpu") > cleared
    for variable in ({"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}, {"LD_PRELOAD": ""}):
        assert faults(**variable) > cleared
    (tmp_path / "jax_plugins").mkdir()
    assert faults() > cleared and faults(JAX_PLATFORMS="cpu") < 10
