"""The names of the two packages of mathematics, as a notebook uses them."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from diffusion import core, sampling

SAMPLERS = ("ancestral", "ddim", "dpm_solver", "heun", "reverse_diffusion", "probability_flow", "predictor_corrector")


def test_core_has_its_modules_and_their_names():
    files = {path.stem for path in Path(core.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(core.MODULES) == files and set(core.MODULES) | set(core.HOME) <= set(dir(core))
    for module in core.MODULES:
        assert getattr(core, module) is importlib.import_module(f"diffusion.core.{module}")
    for name, module in core.HOME.items():
        assert getattr(core, name) is getattr(getattr(core, module), name)


def test_a_missing_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'diffusion\.core' has no attribute 'q_smaple'"):
        _ = core.q_smaple


def test_a_sampler_takes_the_place_of_its_file():
    for name in SAMPLERS:
        assert not isinstance(getattr(sampling, name), ModuleType)
    assert importlib.import_module("diffusion.sampling.ddim").ddim is sampling.ddim


def test_schedules_and_grids_need_no_jax():
    code = "import sys; from diffusion import core; core.respacing.full(core.schedules.linear(9)); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy" in done.stdout.split() and "jax" not in done.stdout.split()
