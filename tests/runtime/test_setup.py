"""What may choose the folder of compiled programs, which are executable code: the user, never a run's folder."""

import os
from pathlib import Path

import pytest

from diffusion.config import default_config
from diffusion.figures.figure_inputs import Inputs, Request
from diffusion.runtime import setup
from diffusion.workdir.run import Run, open_run, read_run

ROOT = Path(__file__).resolve().parents[2]
CACHE = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment of its own, without a folder of compiled programs."""
    for name in (CACHE, "XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


def test_the_environment_overrides_the_config(environment, tmp_path):
    assert setup.configure() == tmp_path / "cache" / "diffusion" / "xla"
    environment.setenv(CACHE, "")
    assert setup.configure("off") is None
    assert setup.configure(str(tmp_path / "asked")) == tmp_path / "asked"
    environment.setenv(CACHE, str(tmp_path / "mine"))
    for asked in ("auto", "off", str(tmp_path / "asked")):
        assert setup.configure(asked) == tmp_path / "mine"
    assert os.environ[CACHE] == str(tmp_path / "mine")


@pytest.mark.usefixtures("environment")
def test_a_run_folder_does_not_choose_where_programs_come_from(tmp_path):
    planted = tmp_path / "planted"
    config = default_config()
    config.compilation_cache, config.data.threads = str(planted), 1000
    folder = tmp_path / "run"
    open_run(folder, Run(config, (8, 8, 1), 10), "cpu")
    assert str(planted) in (folder / "config.json").read_text()
    run = read_run(folder)
    assert (run.config.compilation_cache, run.config.data.threads) == ("auto", 8)
    assert Inputs(Request(folder)).run == run
    assert os.environ[CACHE] == str(tmp_path / "cache" / "diffusion" / "xla")


def test_scripts_that_read_a_run_take_no_folder_from_it():
    for name in ("sample", "evaluate", "guidance", "export_weights", "figures", "edit"):
        assert "compilation_cache" not in (ROOT / "scripts" / f"{name}.py").read_text()
